//! What an archive is asked for: the query element with its form and its page, decoded.

use cluster::ArchiveId;
use proto::payload::delay;
use proto::payload::form::Form;
use proto::payload::rsm;
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, Jid, ns};

use super::storage::{Filter, Place};
use super::words::Words;
use crate::hooks::{Payload, fail};

/// Entries on a page that names no number (IM-93).
pub const DEFAULT_PAGE: u32 = 100;
/// Entries on any page (IM-93, T-55).
pub const MAX_PAGE: u32 = 250;
/// The field that holds what messages are searched for (XEP-0431).
pub const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";
/// Entries that one query may name.
const MAX_IDS: usize = MAX_PAGE as usize;

/// A query, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Echoed in each result, if given.
    pub id: Option<String>,
    /// Which entries match.
    pub filter: Filter,
    /// What they must contain, if the query is a search.
    pub words: Option<Words>,
    /// How many of them are wanted; 0 asks for their number only.
    pub max: u32,
    /// Where the page lies.
    pub place: Place,
    /// The page is sent newest first (IM-92).
    pub flip: bool,
}

impl Payload for Query {
    const NS: &'static str = ns::MAM;
    const NAME: &'static str = "query";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let form = element.child("x", ns::DATA_FORM).map(filter).transpose()?;
        let (filter, words) = form.unwrap_or_default();
        let (max, place) = page(element)?;
        Ok(Self {
            id: element.attr("queryid").map(str::to_owned),
            filter,
            words,
            max,
            place,
            flip: element.child("flip-page", ns::MAM).is_some(),
        })
    }
}

fn filter(element: &Element) -> Result<(Filter, Option<Words>), StanzaError> {
    let form = Form::parse(element).ok_or(Condition::BadRequest)?;
    let (mut filter, mut words) = (Filter::default(), None);
    for field in form.fields {
        let one = || {
            field
                .values
                .first()
                .map(String::as_str)
                .ok_or(Condition::BadRequest)
        };
        match field.var.as_str() {
            "FORM_TYPE" if one()? == ns::MAM => {}
            "FORM_TYPE" => return fail(Condition::BadRequest),
            "with" => filter.with = Some(Jid::new(one()?).map_err(|_| Condition::BadRequest)?),
            "start" => filter.start = Some(moment(one()?)?),
            "end" => filter.end = Some(moment(one()?)?),
            "after-id" => filter.after = Some(entry(one()?)?),
            "before-id" => filter.before = Some(entry(one()?)?),
            "ids" if field.values.len() > MAX_IDS => return fail(Condition::PolicyViolation),
            "ids" => {
                let ids: Result<_, _> = field.values.iter().map(|id| entry(id)).collect();
                filter.ids = Some(ids?);
            }
            FULLTEXT => {
                let text = field.values.first().map_or("", String::as_str);
                words = Words::new(text).map_err(|_| Condition::PolicyViolation)?;
            }
            // Rooms keep their own archives: there is nothing to add or to leave out.
            "include-groupchat" if matches!(one()?, "0" | "1" | "true" | "false") => {}
            "include-groupchat" => return fail(Condition::BadRequest),
            _ => return fail(Condition::FeatureNotImplemented),
        }
    }
    Ok((filter, words))
}

fn moment(text: &str) -> Result<u64, StanzaError> {
    delay::parse_stamp(text).ok_or_else(|| Condition::BadRequest.into())
}

/// What is no id of ours is in no archive of ours.
fn entry(text: &str) -> Result<ArchiveId, StanzaError> {
    text.parse().or_else(|_| fail(Condition::ItemNotFound))
}

fn page(query: &Element) -> Result<(u32, Place), StanzaError> {
    let request = rsm::Request::parse(query).map_err(|_| Condition::BadRequest)?;
    if request.index.is_some() {
        return fail(Condition::FeatureNotImplemented);
    }
    let max = request.max.unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
    let place = match (request.after.as_deref(), request.before.as_deref()) {
        (Some(id), None) => Place::After(entry(id)?),
        (None, Some(id)) if !id.is_empty() => Place::Before(entry(id)?),
        (None, Some(_)) => Place::Last,
        (None, None) => Place::First,
        // What comes after something is not at the end of everything.
        (Some(_), Some(_)) => return fail(Condition::BadRequest),
    };
    Ok((max, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192000000000000000000000000000a";

    fn decode(form: &str, rest: &str) -> Result<Query, Condition> {
        let form = match form {
            "" => String::new(),
            fields => format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>"),
        };
        let xml = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{form}{rest}</query>");
        Query::decode(&Element::parse(xml).unwrap()).map_err(|error| error.condition)
    }

    fn field(var: &str, value: &str) -> String {
        format!("<field var='{var}'><value>{value}</value></field>")
    }

    fn set(children: &str) -> String {
        format!("<set xmlns='http://jabber.org/protocol/rsm'>{children}</set>")
    }

    #[test]
    fn im_88_a_form_filters_by_party_time_and_id() {
        let form = [
            field("FORM_TYPE", "urn:xmpp:mam:2"),
            field("with", "bob@example.org"),
            field("start", "1970-01-01T01:00:01+01:00"),
            field("end", "1970-01-01T00:00:02.5Z"),
            field("ids", ID),
        ];
        let query = decode(&form.concat(), "").unwrap();
        let expect = Filter {
            with: Some("bob@example.org".parse().unwrap()),
            start: Some(1000),
            end: Some(2500),
            ids: Some(vec![ID.parse().unwrap()]),
            ..Filter::default()
        };
        assert_eq!(query.filter, expect);
        assert_eq!(query.id.as_deref(), Some("q"));
    }

    #[test]
    fn im_89_what_is_not_understood_is_refused() {
        assert_eq!(
            decode(&field("colour", "red"), ""),
            Err(Condition::FeatureNotImplemented)
        );
        assert_eq!(
            decode(&field("start", "yesterday"), ""),
            Err(Condition::BadRequest)
        );
        assert_eq!(decode(&field("with", "@"), ""), Err(Condition::BadRequest));
        assert_eq!(
            decode(&field("after-id", "7"), ""),
            Err(Condition::ItemNotFound)
        );
        assert_eq!(
            decode("", &set("<before>7</before>")),
            Err(Condition::ItemNotFound)
        );
        assert_eq!(
            decode("", &set("<max>many</max>")),
            Err(Condition::BadRequest)
        );
        assert_eq!(
            decode("", &set("<index>3</index>")),
            Err(Condition::FeatureNotImplemented)
        );
    }

    #[test]
    fn im_94_a_form_may_search_for_words() {
        let words = |value: &str| decode(&field(FULLTEXT, value), "").map(|query| query.words);
        assert_eq!(words("Some words"), Ok(Words::new("Some words").unwrap()));
        assert_eq!(words(" "), Ok(None));
        assert_eq!(words(&"x".repeat(100_000)), Err(Condition::PolicyViolation));
        let empty = format!("<field var='{FULLTEXT}'/>");
        assert_eq!(decode(&empty, "").unwrap().words, None);
    }

    #[track_caller]
    fn check_page(children: &str, max: u32, place: Place) {
        let query = decode("", &set(children)).unwrap();
        assert_eq!((query.max, query.place), (max, place), "{children}");
    }

    #[test]
    fn im_93_pages_are_bounded_and_lie_where_they_are_asked_for() {
        let mid: ArchiveId = ID.parse().unwrap();
        check_page("", DEFAULT_PAGE, Place::First);
        check_page("<max>0</max>", 0, Place::First);
        check_page("<max>4000000000</max><before/>", MAX_PAGE, Place::Last);
        check_page(
            &format!("<max>5</max><after>{ID}</after>"),
            5,
            Place::After(mid),
        );
        check_page(
            &format!("<before>{ID}</before>"),
            DEFAULT_PAGE,
            Place::Before(mid),
        );
        assert_eq!(decode("", "").unwrap().max, DEFAULT_PAGE);
        let both = set(&format!("<before>{ID}</before><after>{ID}</after>"));
        assert_eq!(decode("", &both), Err(Condition::BadRequest));
    }
}
