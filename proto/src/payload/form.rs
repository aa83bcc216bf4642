//! XEP-0004: forms, as far as services exchange them with programs.

use crate::ns;
use crate::xml::Element;

/// What a form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormType {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Given up.
    Cancel,
    /// An answer.
    Result,
}

/// A field with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub var: String,
    /// Its type, such as `hidden`, if one is stated.
    pub kind: Option<String>,
    /// Its values, in order.
    pub values: Vec<String>,
}

/// A form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is for.
    pub kind: FormType,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

impl Form {
    /// A form of which programs know the fields by its `FORM_TYPE` (XEP-0068).
    pub fn new(kind: FormType, form_type: &str) -> Self {
        let fields = Vec::new();
        Self { kind, fields }.with_typed("FORM_TYPE", "hidden", [form_type])
    }

    /// The form with a field appended.
    pub fn with<T: Into<String>>(mut self, var: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.fields.push(Field {
            var: var.to_owned(),
            kind: None,
            values: values.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// The form with a field of a stated type appended.
    pub fn with_typed<T: Into<String>>(
        self,
        var: &str,
        kind: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut form = self.with(var, values);
        if let Some(field) = form.fields.last_mut() {
            field.kind = Some(kind.to_owned());
        }
        form
    }

    /// Reads a form; `None` for an element that is none.
    pub fn parse(x: &Element) -> Option<Self> {
        if !x.is("x", ns::DATA_FORM) {
            return None;
        }
        let kind = match x.attr("type")? {
            "form" => FormType::Form,
            "submit" => FormType::Submit,
            "cancel" => FormType::Cancel,
            "result" => FormType::Result,
            _ => return None,
        };
        let fields = x.elements().filter(|e| e.is("field", ns::DATA_FORM));
        let fields = fields.filter_map(|field| {
            let values = field.elements().filter(|e| e.is("value", ns::DATA_FORM));
            Some(Field {
                var: field.attr("var")?.to_owned(),
                kind: field.attr("type").map(str::to_owned),
                values: values.map(Element::text).collect(),
            })
        });
        let fields = fields.collect();
        Some(Self { kind, fields })
    }

    /// The values of a field.
    pub fn values(&self, var: &str) -> Option<&[String]> {
        let field = self.fields.iter().find(|field| field.var == var)?;
        Some(&field.values)
    }

    /// The first value of a field.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.values(var)?.first().map(String::as_str)
    }

    /// The `FORM_TYPE`.
    pub fn form_type(&self) -> Option<&str> {
        self.value("FORM_TYPE")
    }

    /// The `<x/>` element.
    pub fn to_element(&self) -> Element {
        let kind = match self.kind {
            FormType::Form => "form",
            FormType::Submit => "submit",
            FormType::Cancel => "cancel",
            FormType::Result => "result",
        };
        let mut x = Element::new("x", ns::DATA_FORM).with_attr("type", kind);
        for field in &self.fields {
            let mut element = Element::new("field", ns::DATA_FORM).with_attr("var", &field.var);
            if let Some(kind) = &field.kind {
                element.set_attr("type", kind);
            }
            for value in &field.values {
                element.push(Element::new("value", ns::DATA_FORM).with_text(value));
            }
            x.push(element);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xep_0004_a_form_is_read_as_it_was_written() {
        let form = Form::new(FormType::Submit, "urn:xmpp:mam:2")
            .with("with", ["a@example.org"])
            .with("ids", ["1", "2"]);
        assert_eq!(form.form_type(), Some("urn:xmpp:mam:2"));
        assert_eq!(form.values("ids").map(<[_]>::len), Some(2));
        assert_eq!(Form::parse(&form.to_element()), Some(form));
    }

    #[test]
    fn xep_0004_other_elements_are_no_forms() {
        assert_eq!(Form::parse(&Element::new("x", ns::DATA_FORM)), None);
        let foreign = Element::new("x", "urn:x").with_attr("type", "form");
        assert_eq!(Form::parse(&foreign), None);
    }
}
