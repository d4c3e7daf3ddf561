//! JSON Schema of messages and enums, in the form of proto3's JSON mapping.

use std::collections::BTreeMap;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value as Reflected};
use serde_json::{Map, Value, json};

use crate::comments::comment;

/// Behaviour of a field towards clients (`google.api.field_behavior`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Required = 2,
    OutputOnly = 3,
}

impl Behavior {
    /// Returns whether the field is annotated with this behaviour.
    pub(crate) fn is_of(self, field: &FieldDescriptor) -> bool {
        let extension = field
            .parent_pool()
            .get_extension_by_name("google.api.field_behavior")
            .expect("the protos import it");
        let options = field.options();
        let values = options.get_extension(&extension);
        let mut values = values.as_list().unwrap_or_default().iter();
        values.any(|value| value.as_enum_number() == Some(self as i32))
    }
}

/// Schemas that the document refers to, by the full name of the message or enum.
#[derive(Debug, Default)]
pub(crate) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Returns a reference to the schema of a message, and adds the schema if it is missing. A
    /// well-known type is inlined.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message.full_name()) {
            return schema;
        }
        let name = message.full_name();
        if !self.0.contains_key(name) {
            // Reserve the name first, so that a message that contains its own type does not recurse
            // for ever.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = self.object(message, &[]);
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// Returns the schema of a message without these fields.
    pub(crate) fn object(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        let fields = || message.fields().filter(|field| !without.contains(&field.name()));
        let properties: Map<_, _> = fields()
            .map(|field| (field.json_name().to_owned(), self.field(&field)))
            .collect();
        let required = fields().filter(|field| Behavior::Required.is_of(field));
        let required: Vec<_> = required.map(|field| field.json_name().to_owned()).collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        describe(&mut schema, &comment(&message.parent_file(), message.path()));
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), properties.into());
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        schema.into()
    }

    /// Returns the schema of a field's value, and adds the schemas that it refers to.
    pub(crate) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = match field.cardinality() {
            Cardinality::Repeated if field.is_map() => {
                let Kind::Message(entry) = field.kind() else {
                    unreachable!("a map is made of entries")
                };
                json!({"type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind())})
            }
            Cardinality::Repeated => json!({"type": "array", "items": self.kind(&field.kind())}),
            _ => self.kind(&field.kind()),
        };
        let object = schema.as_object_mut().expect("a schema is an object");
        if is_secret(field) {
            object.insert("format".to_owned(), json!("password"));
        }
        if Behavior::OutputOnly.is_of(field) {
            object.insert("readOnly".to_owned(), json!(true));
        }
        describe(object, &comment(&field.parent_message().parent_file(), field.path()));
        schema
    }

    /// Adds a schema that is not generated from a message of the protos, and returns a reference to
    /// it.
    pub(crate) fn insert(&mut self, name: &str, schema: Value) -> Value {
        self.0.insert(name.to_owned(), schema);
        reference(name)
    }

    /// Returns all schemas, as the section `schemas` of the document's components.
    pub(crate) fn into_components(self) -> Value {
        self.0.into_iter().collect::<Map<_, _>>().into()
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
            // JSON numbers lose digits beyond 2^53.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Message(message) => self.message(message),
            Kind::Enum(values) => self.enumeration(values),
        }
    }

    fn enumeration(&mut self, values: &EnumDescriptor) -> Value {
        let name = values.full_name();
        if !self.0.contains_key(name) {
            let schema = enumeration(values, |name| Some(name.to_owned()));
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

/// Returns the schema of an enum. `label` returns the name of a value, or `None` to leave the value
/// out.
pub(crate) fn enumeration(values: &EnumDescriptor, label: impl Fn(&str) -> Option<String>) -> Value {
    let file = values.parent_file();
    let mut lines = vec![comment(&file, values.path()), String::new()];
    let mut names = Vec::new();
    for value in values.values() {
        let Some(name) = label(value.name()) else {
            continue;
        };
        let meaning = comment(&file, value.path()).replace('\n', " ");
        lines.push(format!("- `{name}`: {meaning}"));
        names.push(name);
    }
    json!({"type": "string", "description": lines.join("\n"), "enum": names})
}

/// Returns whether the field is marked `debug_redact`.
pub(crate) fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options
        .get_field_by_name("debug_redact")
        .is_some_and(|value| *value == Reflected::Bool(true))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn describe(schema: &mut Map<String, Value>, comment: &str) {
    if !comment.is_empty() {
        schema.insert("description".to_owned(), json!(comment));
    }
}

/// Returns the schema of a message that has a JSON form of its own, or `None` for other messages.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => json!({"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"}),
        "google.protobuf.FieldMask" => json!({"type": "string"}),
        "google.protobuf.Any" => json!({
            "type": "object",
            "properties": {"@type": {"type": "string", "description": "The type of the message, such as \
            `type.googleapis.com/google.rpc.ErrorInfo`."}},
            "required": ["@type"],
            "additionalProperties": true,
        }),
        _ => return None,
    })
}
