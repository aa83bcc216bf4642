//! XEP-0004: forms, as services and clients exchange them: to be filled in by people or by programs.

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub var: String,
    /// Its type, such as `hidden`, if one is stated.
    pub kind: Option<String>,
    /// What people are told it is. Not read from others.
    pub label: Option<String>,
    /// It must be filled in. Not read from others.
    pub required: bool,
    /// What there is to choose from. Not read from others.
    pub options: Vec<String>,
    /// Its values, in order.
    pub values: Vec<String>,
}

impl Field {
    /// A field of a type that people are told what it is.
    pub fn new(var: &str, kind: &str, label: &str) -> Self {
        Self {
            var: var.to_owned(),
            kind: Some(kind.to_owned()),
            label: Some(label.to_owned()),
            ..Self::default()
        }
    }

    /// The field, which must be filled in.
    pub fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// The field with what there is to choose from.
    pub fn with_options<T: Into<String>>(mut self, options: impl IntoIterator<Item = T>) -> Self {
        self.options = options.into_iter().map(Into::into).collect();
        self
    }

    /// The field with these values.
    pub fn with_values<T: Into<String>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.values = values.into_iter().map(Into::into).collect();
        self
    }

    fn to_element(&self) -> Element {
        let mut element = Element::new("field", ns::DATA_FORM).with_attr("var", &self.var);
        if let Some(kind) = &self.kind {
            element.set_attr("type", kind);
        }
        if let Some(label) = &self.label {
            element.set_attr("label", label);
        }
        if self.required {
            element.push(Element::new("required", ns::DATA_FORM));
        }
        for value in &self.values {
            element.push(Element::new("value", ns::DATA_FORM).with_text(value));
        }
        for option in &self.options {
            let value = Element::new("value", ns::DATA_FORM).with_text(option);
            let option = Element::new("option", ns::DATA_FORM).with_attr("label", option);
            element.push(option.with_child(value));
        }
        element
    }
}

/// A form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is for.
    pub kind: FormType,
    /// Its title. Not read from others.
    pub title: Option<String>,
    /// What people are to do. Not read from others.
    pub instructions: Option<String>,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

impl Form {
    /// A form of which programs know the fields by its `FORM_TYPE` (XEP-0068).
    pub fn new(kind: FormType, form_type: &str) -> Self {
        Self::of(kind, Vec::new()).with_typed("FORM_TYPE", "hidden", [form_type])
    }

    fn of(kind: FormType, fields: Vec<Field>) -> Self {
        Self {
            kind,
            title: None,
            instructions: None,
            fields,
        }
    }

    /// The form with words for people.
    pub fn titled(self, title: &str, instructions: &str) -> Self {
        Self {
            title: Some(title.to_owned()),
            instructions: (!instructions.is_empty()).then(|| instructions.to_owned()),
            ..self
        }
    }

    /// The form with a field appended that is to be filled in.
    pub fn asking(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// The form with a field appended.
    pub fn with<T: Into<String>>(mut self, var: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.fields.push(Field {
            var: var.to_owned(),
            values: values.into_iter().map(Into::into).collect(),
            ..Field::default()
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
                ..Field::default()
            })
        });
        Some(Self::of(kind, fields.collect()))
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

    /// The lines of a field, as one text.
    pub fn text(&self, var: &str) -> Option<String> {
        self.values(var).map(|lines| lines.join("\n"))
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
        for (name, words) in [("title", &self.title), ("instructions", &self.instructions)] {
            if let Some(words) = words {
                x.push(Element::new(name, ns::DATA_FORM).with_text(words));
            }
        }
        for field in &self.fields {
            x.push(field.to_element());
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
    fn xep_0004_people_are_told_what_to_fill_in() {
        let max = Field::new("max", "list-single", "How many").with_options(["25"]);
        let form = Form::new(FormType::Form, "urn:x")
            .titled("Title", "Do it")
            .asking(Field::new("text", "text-multi", "Words").required())
            .asking(max.with_values(["25"]));
        assert_eq!(
            form.to_element().to_xml(ns::DATA_FORM),
            "<x type='form'><title>Title</title><instructions>Do it</instructions>\
             <field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>\
             <field var='text' type='text-multi' label='Words'><required/></field>\
             <field var='max' type='list-single' label='How many'><value>25</value>\
             <option label='25'><value>25</value></option></field></x>"
        );
        let submitted = Form::new(FormType::Submit, "urn:x").with("text", ["one", "two"]);
        assert_eq!(submitted.text("text").as_deref(), Some("one\ntwo"));
    }

    #[test]
    fn xep_0004_other_elements_are_no_forms() {
        assert_eq!(Form::parse(&Element::new("x", ns::DATA_FORM)), None);
        let foreign = Element::new("x", "urn:x").with_attr("type", "form");
        assert_eq!(Form::parse(&foreign), None);
    }
}
