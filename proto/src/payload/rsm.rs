//! XEP-0059: result sets, which deliver a long answer in pages.

use crate::ns;
use crate::xml::Element;

/// Which page is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The most items on the page; 0 asks for the count alone.
    pub max: Option<u32>,
    /// Items behind this one.
    pub after: Option<String>,
    /// Items before this one; empty for the last page.
    pub before: Option<String>,
    /// Items from this position on.
    pub index: Option<u32>,
}

impl Request {
    /// Reads the `<set/>` within a query. One that is absent asks for everything.
    ///
    /// A number that is none, or two directions at once, make the request invalid.
    pub fn parse(query: &Element) -> Result<Self, InvalidPage> {
        let Some(set) = query.child("set", ns::RSM) else {
            return Ok(Self::default());
        };
        let text = |name| set.child(name, ns::RSM).map(Element::text);
        let number = |name| {
            let text = text(name);
            text.map(|text| text.trim().parse().map_err(|_| InvalidPage))
                .transpose()
        };
        let request = Self {
            max: number("max")?,
            after: text("after").filter(|after| !after.is_empty()),
            before: text("before"),
            index: number("index")?,
        };
        match request.after.is_some() && request.before.as_ref().is_some_and(|b| !b.is_empty()) {
            true => Err(InvalidPage),
            false => Ok(request),
        }
    }
}

/// A request for a page that cannot be read: `bad-request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request for a page is malformed")]
pub struct InvalidPage;

/// What a page holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The ids of its first and last item, unless it is empty.
    pub range: Option<(String, String)>,
    /// The position of its first item, if it is known.
    pub index: Option<u64>,
    /// How many items there are in all, if it is known.
    pub count: Option<u64>,
}

impl Page {
    /// The `<set/>` of the answer.
    pub fn to_element(&self) -> Element {
        let mut set = Element::new("set", ns::RSM);
        if let Some((first, last)) = &self.range {
            let mut element = Element::new("first", ns::RSM).with_text(first);
            if let Some(index) = self.index {
                element.set_attr("index", index.to_string());
            }
            set.push(element);
            set.push(Element::new("last", ns::RSM).with_text(last));
        }
        if let Some(count) = self.count {
            set.push(Element::new("count", ns::RSM).with_text(&count.to_string()));
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(set: &str) -> Result<Request, InvalidPage> {
        let query = format!("<q xmlns='u'><set xmlns='{}'>{set}</set></q>", ns::RSM);
        Request::parse(&Element::parse(query).unwrap())
    }

    #[test]
    fn xep_0059_an_empty_before_asks_for_the_last_page() {
        let request = parse("<max>10</max><before/>").unwrap();
        assert_eq!((request.max, request.before), (Some(10), Some("".into())));
        assert_eq!(
            Request::parse(&Element::new("q", "u")),
            Ok(Request::default())
        );
    }

    #[test]
    fn xep_0059_nonsense_is_refused() {
        for bad in [
            "<max>-1</max>",
            "<max/>",
            "<index>x</index>",
            "<after>1</after><before>2</before>",
        ] {
            assert_eq!(parse(bad), Err(InvalidPage), "{bad}");
        }
    }

    #[test]
    fn xep_0059_a_page_names_its_ends_and_the_count() {
        let page = Page {
            range: Some(("a".into(), "b".into())),
            index: Some(0),
            count: Some(7),
        };
        assert_eq!(
            page.to_element().to_xml(ns::RSM),
            "<set><first index='0'>a</first><last>b</last><count>7</count></set>"
        );
        assert_eq!(Page::default().to_element().to_xml(ns::RSM), "<set/>");
    }
}
