//! Messages and enums as JSON Schema: what proto3's JSON mapping makes of them.

use std::collections::BTreeMap;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value as Reflected};
use serde_json::{Map, Value, json};

use crate::comments::comment;

/// The schemas that something refers to, by the full name of the message or enum.
#[derive(Debug, Default)]
pub(crate) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// A reference to a message's schema, which is there from now on.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message.full_name()) {
            return schema;
        }
        let name = message.full_name();
        if !self.0.contains_key(name) {
            // First a place, so that a message that holds its own kind ends.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = self.object(message, &[]);
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// The schema of a message without some of its fields.
    pub(crate) fn object(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        let fields = message.fields().filter(|field| !without.contains(&field.name()));
        let properties: Map<_, _> = fields
            .map(|field| (field.json_name().to_owned(), self.field(&field)))
            .collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        describe(&mut schema, &comment(&message.parent_file(), message.path()));
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), properties.into());
        }
        schema.into()
    }

    /// The schema of a field's value.
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
        describe(object, &comment(&field.parent_message().parent_file(), field.path()));
        schema
    }

    /// All of them.
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
            let file = values.parent_file();
            let mut lines = vec![comment(&file, values.path())];
            lines.extend(values.values().map(|value| {
                let meaning = comment(&file, value.path()).replace('\n', " ");
                let separator = if meaning.is_empty() { "" } else { ": " };
                format!("- `{}`{separator}{meaning}", value.name())
            }));
            let text = lines.join("\n");
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            let schema = json!({"type": "string", "description": text, "enum": names});
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

/// Whether the field is marked `debug_redact`.
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

/// Messages that JSON writes in a way of their own.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => json!({"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"}),
        "google.protobuf.FieldMask" => json!({"type": "string", "examples": ["firstName,lastName"]}),
        "google.protobuf.Any" => json!({
            "type": "object",
            "properties": {"@type": {"type": "string", "description": "The type of the message, such as `type.googleapis.com/google.rpc.ErrorInfo`."}},
            "required": ["@type"],
            "additionalProperties": true,
        }),
        _ => return None,
    })
}
