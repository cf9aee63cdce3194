//! CTP's records as they were measured, for the tests that hold the code to them.

const RECORDS: &str = include_str!("facts/records.txt");

/// A record of one version (`6.6.5` or `6.7.13`): its size and its fields, each with name, offset and length.
pub fn record(version: &str, name: &str) -> (usize, Vec<(&'static str, usize, usize)>) {
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let line = RECORDS
        .lines()
        .skip_while(|line| *line != format!("[{version}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .find(|line| line.split(' ').next() == Some(name))
        .expect(name);
    let mut words = line.split(' ').skip(1);
    let size = number(words.next().expect("a size"));
    let fields = words.map(|word| {
        let mut parts = word.split(':');
        let mut part = || parts.next().expect("name:offset:length");
        (part(), number(part()), number(part()))
    });
    (size, fields.collect())
}

/// A record of the oldest version, to be filled and read field by field.
pub struct Filled {
    pub bytes: Vec<u8>,
    fields: Vec<(&'static str, usize, usize)>,
}

impl Filled {
    /// All zero.
    pub fn zeroed(name: &str) -> Filled {
        let (size, fields) = record("6.6.5", &format!("CThostFtdc{name}Field"));
        Filled { bytes: vec![0; size], fields }
    }

    /// With these bytes; those beyond its size are left out.
    pub fn with(name: &str, bytes: &[u8]) -> Filled {
        let mut filled = Filled::zeroed(name);
        let size = filled.bytes.len();
        filled.bytes.copy_from_slice(&bytes[..size]);
        filled
    }

    fn place(&self, field: &str) -> std::ops::Range<usize> {
        let (_, at, len) = self.fields.iter().find(|(name, _, _)| *name == field).expect(field);
        *at..at + len
    }

    /// Sets a field.
    pub fn set(mut self, field: &str, value: &[u8]) -> Filled {
        let place = self.place(field);
        self.bytes[place][..value.len()].copy_from_slice(value);
        self
    }

    /// A field's bytes, without the NULs at their end.
    pub fn get(&self, field: &str) -> Vec<u8> {
        let bytes = &self.bytes[self.place(field)];
        bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)].to_vec()
    }

    /// Makes every field zero that is named, and says which bytes are not zero then.
    pub fn left(&self, named: &[&str]) -> Vec<usize> {
        let mut bytes = self.bytes.clone();
        for field in named {
            bytes[self.place(field)].fill(0);
        }
        (0..bytes.len()).filter(|at| bytes[*at] != 0).collect()
    }
}
