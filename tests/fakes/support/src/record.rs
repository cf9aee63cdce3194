//! A record of CTP's as bytes, filled and read by its fields' names.

use serde_json::{Map, Value};

const FACTS: &str = include_str!("../../../../ctp/src/facts/records.txt");

/// One of CTP's records.
#[derive(Clone)]
pub struct Record {
    /// Exactly as long as the library's version has it.
    pub bytes: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone)]
struct Field {
    name: &'static str,
    at: usize,
    len: usize,
}

enum Type {
    Text,
    Char,
    Int,
    Double,
}

impl Field {
    fn kind(&self) -> Type {
        match self.len {
            1 => Type::Char,
            // The one text of that length.
            4 if self.name == "CurrencyID" => Type::Text,
            4 => Type::Int,
            8 => Type::Double,
            _ => Type::Text,
        }
    }
}

impl Record {
    /// All zero. `name` is `Order` for `CThostFtdcOrderField`; family E has the newest version's, the others the oldest.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn zeroed(name: &str, family: &str) -> Record {
        let version = if family == "E" { "[6.7.13]" } else { "[6.6.5]" };
        let name = format!("CThostFtdc{name}Field");
        let line = FACTS
            .lines()
            .skip_while(|line| *line != version)
            .skip(1)
            .find(|line| line.split(' ').next() == Some(&name))
            .unwrap_or_else(|| panic!("no record {name}"));
        let mut words = line.split(' ').skip(1);
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).expect("a number");
        let size = number(words.next());
        let fields = words.map(|word| {
            let mut parts = word.split(':');
            Field { name: parts.next().expect("a name"), at: number(parts.next()), len: number(parts.next()) }
        });
        Record { bytes: vec![0; size], fields: fields.collect() }
    }

    fn field(&self, name: &str) -> &Field {
        self.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("no field {name}"))
    }

    /// Where a field's bytes are.
    pub fn place(&self, name: &str) -> std::ops::Range<usize> {
        let field = self.field(name);
        field.at..field.at + field.len
    }

    /// Sets a field: text in UTF-8, whole numbers, other numbers, or `"DBL_MAX"` for one of those.
    ///
    /// # Panics
    /// If there is no such field, or it does not take such a value.
    pub fn set(&mut self, name: &str, value: &Value) {
        let field = self.field(name).clone();
        let bytes = match (field.kind(), value) {
            (Type::Text | Type::Char, Value::String(text)) => encoding_rs::GB18030.encode(text).0.into_owned(),
            (Type::Int, Value::Number(number)) => {
                i32::try_from(number.as_i64().expect("whole")).expect("32 bits").to_ne_bytes().to_vec()
            }
            (Type::Double, Value::Number(number)) => number.as_f64().expect("a number").to_ne_bytes().to_vec(),
            (Type::Double, Value::String(text)) if text == "DBL_MAX" => f64::MAX.to_ne_bytes().to_vec(),
            _ => panic!("field {name} does not take {value}"),
        };
        assert!(bytes.len() <= field.len, "{value} does not fit {name}");
        self.bytes[field.at..field.at + field.len].fill(0);
        self.bytes[field.at..field.at + bytes.len()].copy_from_slice(&bytes);
    }

    /// Makes every number with a fraction say nothing: `DBL_MAX`.
    pub fn blank(&mut self) {
        for field in self.fields.iter().filter(|field| matches!(field.kind(), Type::Double)) {
            self.bytes[field.at..field.at + field.len].copy_from_slice(&f64::MAX.to_ne_bytes());
        }
    }

    /// Sets these fields.
    pub fn set_all(&mut self, fields: &Map<String, Value>) {
        for (name, value) in fields {
            self.set(name, value);
        }
    }

    /// The value of a field, as [`Record::set`] takes it.
    pub fn get(&self, name: &str) -> Value {
        self.value(self.field(name))
    }

    /// A text, empty where the field is none.
    pub fn text(&self, name: &str) -> String {
        self.get(name).as_str().unwrap_or_default().to_owned()
    }

    /// A whole number, 0 where the field is none.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).as_i64().unwrap_or_default()
    }

    fn value(&self, field: &Field) -> Value {
        let bytes = &self.bytes[field.at..field.at + field.len];
        match field.kind() {
            Type::Text | Type::Char => {
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                Value::String(encoding_rs::GB18030.decode(text).0.into_owned())
            }
            Type::Int => Value::from(i32::from_ne_bytes(bytes.try_into().expect("4 bytes"))),
            Type::Double => {
                let value = f64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
                if value == f64::MAX { Value::from("DBL_MAX") } else { Value::from(value) }
            }
        }
    }

    /// The fields that are not zero.
    pub fn filled(&self) -> Map<String, Value> {
        let filled = |field: &&Field| self.bytes[field.at..field.at + field.len].iter().any(|byte| *byte != 0);
        self.fields.iter().filter(filled).map(|field| (field.name.to_owned(), self.value(field))).collect()
    }

    /// Copies the fields that both have by the same name.
    pub fn copy_from(&mut self, other: &Record) {
        for field in self.fields.clone() {
            if let Some(same) = other.fields.iter().find(|same| same.name == field.name && same.len == field.len) {
                let bytes = other.bytes[same.at..same.at + same.len].to_vec();
                self.bytes[field.at..field.at + field.len].copy_from_slice(&bytes);
            }
        }
    }
}
