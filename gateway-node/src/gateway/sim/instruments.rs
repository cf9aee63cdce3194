//! What can be traded at the simulated venue: contracts from instrument files, and from product files for instruments
//! that no instrument file lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use chrono::NaiveDate;
use csv::StringRecord;
use protocol::{Contract, Exchange, InstrumentId, Name, Product, Symbol};

use super::recorded::columns::{Column, parse_day};
use super::recorded::open_plain_or_gzip;

/// The contracts of one gateway, by instrument.
#[derive(Debug, Clone)]
pub struct Contracts {
    gateway: Name,
    by_instrument: BTreeMap<InstrumentId, Contract>,
    by_product: BTreeMap<(Exchange, Symbol), ProductSpec>,
    instrument_files: Vec<PathBuf>,
    product_files: Vec<PathBuf>,
}

/// What all instruments of a product share.
#[derive(Debug, Clone)]
struct ProductSpec {
    name: Name,
    size: f64,
    pricetick: f64,
}

impl Contracts {
    /// Reads instrument files and product files (CSV, plain or gzip'd) with the columns of the recorded data sets; both
    /// instrument formats (CTP's with margin ratios, TqSdk's with trading times) are told apart by their columns.
    /// Where two files list the same symbol (CZCE's come again every ten years) the file given last wins.
    ///
    /// # Errors
    /// A file that cannot be read, a missing column, a value that cannot be used: file, line and column.
    pub fn load(instrument_files: &[PathBuf], product_files: &[PathBuf], gateway: &Name) -> anyhow::Result<Contracts> {
        let mut contracts = Contracts {
            gateway: gateway.clone(),
            by_instrument: BTreeMap::new(),
            by_product: BTreeMap::new(),
            instrument_files: instrument_files.to_vec(),
            product_files: product_files.to_vec(),
        };
        for file in instrument_files {
            contracts.load_instruments(file)?;
        }
        for file in product_files {
            contracts.load_products(file)?;
        }
        Ok(contracts)
    }

    /// The instrument's contract.
    #[must_use]
    pub fn get(&self, instrument: &InstrumentId) -> Option<&Contract> {
        self.by_instrument.get(instrument)
    }

    /// Every contract, by symbol and exchange.
    pub fn iter(&self) -> impl Iterator<Item = &Contract> {
        self.by_instrument.values()
    }

    /// How many contracts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_instrument.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_instrument.is_empty()
    }

    /// Adds a contract, or replaces the one of the same instrument.
    pub fn insert(&mut self, contract: Contract) {
        self.by_instrument.insert(contract.instrument(), contract);
    }

    /// The instrument's contract, made from its product and added if no instrument file lists it.
    ///
    /// # Errors
    /// Neither the instrument nor its product is known: what to add where, and the nearest known instrument.
    pub fn require(&mut self, instrument: &InstrumentId) -> anyhow::Result<&Contract> {
        if !self.by_instrument.contains_key(instrument) {
            let contract = self.by_product_of(instrument).ok_or_else(|| self.unknown(instrument))?;
            self.insert(contract);
        }
        Ok(&self.by_instrument[instrument])
    }

    /// The known instrument whose name is most like this one, the same exchange preferred.
    #[must_use]
    pub fn nearest(&self, instrument: &InstrumentId) -> Option<InstrumentId> {
        let wanted = instrument.symbol.to_lowercase();
        self.by_instrument
            .keys()
            .min_by_key(|known| {
                let distance = strsim::osa_distance(&wanted, &known.symbol.to_lowercase());
                (distance, known.exchange != instrument.exchange, *known)
            })
            .cloned()
    }

    fn by_product_of(&self, instrument: &InstrumentId) -> Option<Contract> {
        let product = product_of(&instrument.symbol)?;
        let spec = self.by_product.get(&(instrument.exchange, product.into()))?;
        let mut contract =
            Contract::new(self.gateway.clone(), instrument.clone(), Product::Futures, spec.size, spec.pricetick);
        let delivery = &instrument.symbol[product.len()..];
        contract.name = format!("{}{delivery}", spec.name).into();
        contract.stop_supported = true;
        contract.history_data = true;
        Some(contract)
    }

    fn unknown(&self, instrument: &InstrumentId) -> anyhow::Error {
        let names = |files: &[PathBuf]| files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" or ");
        let mut advice = if self.instrument_files.is_empty() {
            format!("configure an instrument file that has a row for `{}`", instrument.symbol)
        } else {
            format!("add a row for `{}` to {}", instrument.symbol, names(&self.instrument_files))
        };
        if let Some(product) = product_of(&instrument.symbol) {
            if self.product_files.is_empty() {
                advice += &format!(", or configure a product file that has a row for `{product}`");
            } else {
                advice += &format!(", or one for product `{product}` to {}", names(&self.product_files));
            }
        }
        match self.nearest(instrument) {
            Some(nearest) => anyhow!("no contract for {instrument} (the nearest known is {nearest}): {advice}"),
            None => anyhow!("no contract for {instrument}: {advice}"),
        }
    }

    fn load_instruments(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut table = Table::open(file, "instrument")?;
        if !table.has("symbol") && table.has("product") {
            bail!("{} has no column `symbol`: it looks like a product file, list it as one", file.display());
        }
        let columns = InstrumentColumns::find(&table)?;
        let mut seen = BTreeMap::new();
        while let Some(row) = table.next()? {
            let contract = columns.contract(&row, &self.gateway)?;
            if let Some(line) = seen.insert(contract.instrument(), row.line) {
                bail!(
                    "{}, line {}: {} is listed already in line {line}; remove one",
                    file.display(),
                    row.line,
                    contract.instrument()
                );
            }
            self.insert(contract);
        }
        Ok(())
    }

    fn load_products(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut table = Table::open(file, "product")?;
        if table.has("symbol") {
            bail!("{} has a column `symbol`: it looks like an instrument file, list it as one", file.display());
        }
        let (product, exchange) = (table.column("product")?, table.column("exchange")?);
        let (name, size, pricetick) = (table.column("name")?, table.column("size")?, table.column("pricetick")?);
        while let Some(row) = table.next()? {
            let key = (row.exchange(exchange)?, Symbol::from(row.text(product)?));
            let spec = ProductSpec {
                name: row.text(name)?.into(),
                size: row.positive(size)?,
                pricetick: row.positive(pricetick)?,
            };
            self.by_product.insert(key, spec);
        }
        Ok(())
    }
}

/// The product of a future's symbol: its letters, if three or four digits follow and nothing else. Options
/// (`cu2101C50000`) and combinations have none: they do not share the future's specification.
fn product_of(symbol: &str) -> Option<&str> {
    let letters = symbol.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = &symbol.as_bytes()[letters..];
    (letters > 0 && matches!(digits.len(), 3 | 4) && digits.iter().all(u8::is_ascii_digit)).then(|| &symbol[..letters])
}

struct InstrumentColumns {
    symbol: Column,
    exchange: Column,
    name: Column,
    class: Column,
    size: Column,
    pricetick: Column,
    min_volume: Option<Column>,
    max_volume: Option<Column>,
    open_date: Option<Column>,
    expire_date: Option<Column>,
    long_margin: Option<Column>,
    short_margin: Option<Column>,
}

impl InstrumentColumns {
    fn find(table: &Table) -> anyhow::Result<Self> {
        Ok(InstrumentColumns {
            symbol: table.column("symbol")?,
            exchange: table.column("exchange")?,
            name: table.column("name")?,
            class: table.column("product_class")?,
            size: table.column("size")?,
            pricetick: table.column("pricetick")?,
            min_volume: table.column("min_volume").ok(),
            max_volume: table.column("max_limit_volume").ok(),
            open_date: table.column("open_date").ok(),
            expire_date: table.column("expire_date").ok(),
            long_margin: table.column("long_margin_ratio").ok(),
            short_margin: table.column("short_margin_ratio").ok(),
        })
    }

    fn contract(&self, row: &Row<'_>, gateway: &Name) -> anyhow::Result<Contract> {
        let instrument = InstrumentId::new(row.text(self.symbol)?, row.exchange(self.exchange)?);
        let mut contract = Contract::new(
            gateway.clone(),
            instrument,
            row.product(self.class)?,
            row.positive(self.size)?,
            row.positive(self.pricetick)?,
        );
        if let Some(name) = row.get(self.name) {
            contract.name = name.into();
        }
        contract.min_volume = row.positive_or_absent(self.min_volume)?.unwrap_or(1.0);
        contract.max_volume = row.positive_or_absent(self.max_volume)?;
        contract.open_date = row.day(self.open_date)?;
        contract.expire_date = row.day(self.expire_date)?;
        contract.long_margin_ratio = row.positive_or_absent(self.long_margin)?;
        contract.short_margin_ratio = row.positive_or_absent(self.short_margin)?;
        contract.stop_supported = true;
        contract.history_data = true;
        Ok(contract)
    }
}

/// A small CSV file with a header.
struct Table {
    file: PathBuf,
    reader: csv::Reader<Box<dyn std::io::Read + Send>>,
    header: StringRecord,
    record: StringRecord,
}

impl Table {
    fn open(file: &Path, what: &str) -> anyhow::Result<Table> {
        let reading = || format!("reading {what} file {}", file.display());
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open_plain_or_gzip(file).with_context(reading)?);
        let header = reader.headers().with_context(reading)?.clone();
        if header.is_empty() {
            bail!("{what} file {} is empty: its first line must name the columns", file.display());
        }
        Ok(Table { file: file.to_owned(), reader, header, record: StringRecord::new() })
    }

    fn has(&self, name: &str) -> bool {
        self.header.iter().any(|column| column == name)
    }

    fn column(&self, name: &'static str) -> anyhow::Result<Column> {
        match self.header.iter().position(|column| column == name) {
            Some(index) => Ok(Column { index, name }),
            None => bail!("{} has no column `{name}`; its first line must name it", self.file.display()),
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Row<'_>>> {
        let more = self.reader.read_record(&mut self.record).with_context(|| {
            format!("reading {}, behind line {}", self.file.display(), self.reader.position().line())
        })?;
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(more.then(|| Row { file: &self.file, line, record: &self.record }))
    }
}

/// One row of a [`Table`].
struct Row<'a> {
    file: &'a Path,
    line: u64,
    record: &'a StringRecord,
}

impl Row<'_> {
    /// The cell, `None` if it is empty.
    fn get(&self, column: Column) -> Option<&str> {
        self.record.get(column.index).filter(|text| !text.is_empty())
    }

    fn wrong(&self, column: Column, problem: impl std::fmt::Display) -> anyhow::Error {
        anyhow!("{}, line {}, column `{}`: {problem}", self.file.display(), self.line, column.name)
    }

    fn text(&self, column: Column) -> anyhow::Result<&str> {
        self.get(column).ok_or_else(|| self.wrong(column, "is empty, and every row needs it"))
    }

    fn exchange(&self, column: Column) -> anyhow::Result<Exchange> {
        self.text(column)?.parse().map_err(|unknown| self.wrong(column, unknown))
    }

    fn product(&self, column: Column) -> anyhow::Result<Product> {
        let text = self.text(column)?;
        match text {
            // CTP's and TqSdk's words for what the wire calls otherwise.
            "OPTIONS" => Ok(Product::Option),
            "COMBINATION" | "COMBINE" => Ok(Product::Spread),
            _ => Product::from_str(text).map_err(|unknown| self.wrong(column, unknown)),
        }
    }

    fn positive(&self, column: Column) -> anyhow::Result<f64> {
        let text = self.text(column)?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
            _ => Err(self.wrong(column, format_args!("`{text}` must be a number above 0"))),
        }
    }

    fn positive_or_absent(&self, column: Option<Column>) -> anyhow::Result<Option<f64>> {
        column.filter(|&column| self.get(column).is_some()).map(|column| self.positive(column)).transpose()
    }

    fn day(&self, column: Option<Column>) -> anyhow::Result<Option<NaiveDate>> {
        let Some((column, text)) = column.and_then(|column| Some((column, self.get(column)?))) else { return Ok(None) };
        match parse_day(text.as_bytes()) {
            Some(day) => Ok(Some(day)),
            None => Err(self.wrong(column, format_args!("`{text}` is no day; write it as 20240102"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const CTP: &str = "symbol,exchange,name,product,product_class,size,pricetick,min_volume,max_limit_volume,\
                       max_market_volume,open_date,expire_date,long_margin_ratio,short_margin_ratio,source\n";
    const PRODUCTS: &str = "product,exchange,name,size,pricetick,session\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn load(instruments: &[&str], products: &[&str]) -> anyhow::Result<Contracts> {
        let instruments: Vec<_> = instruments.iter().map(|text| file(text)).collect();
        let products: Vec<_> = products.iter().map(|text| file(text)).collect();
        let paths = |files: &[tempfile::NamedTempFile]| files.iter().map(|f| f.path().to_owned()).collect::<Vec<_>>();
        Contracts::load(&paths(&instruments), &paths(&products), &"sim1".into())
    }

    fn id(text: &str) -> InstrumentId {
        text.parse().expect("an instrument")
    }

    fn refused(instruments: &[&str], products: &[&str]) -> String {
        format!("{:#}", load(instruments, products).expect_err("refused"))
    }

    #[test]
    fn both_instrument_formats_are_read() {
        let tqsdk = "symbol,exchange,name,product,product_class,size,pricetick,min_volume,max_limit_volume,\
                     max_market_volume,open_date,expire_date,expired,trading_time,source\n\
                     ru1901,SHFE,橡胶1901,ru,FUTURES,10,5,,500,0,,20190115,1,\"{\"\"day\"\":[[\"\"09:00:00\"\",\"\"10:15:00\"\"]]}\",tqsdk\n";
        let ctp = format!("{CTP}sc2506,INE,sc2506,sc,FUTURES,1000,0.1,1,500,30,20220601,20250530,0.17,0.16,LocalCTP\n");
        let contracts = load(&[tqsdk, &ctp], &[]).expect("valid");
        assert_eq!(contracts.len(), 2);
        let ru = contracts.get(&id("ru1901.SHFE")).expect("listed");
        assert_eq!((ru.size, ru.pricetick, ru.min_volume, ru.max_volume), (10.0, 5.0, 1.0, Some(500.0)));
        assert_eq!((ru.name.as_str(), ru.open_date, ru.long_margin_ratio), ("橡胶1901", None, None));
        assert_eq!(ru.expire_date, NaiveDate::from_ymd_opt(2019, 1, 15));
        assert!(ru.stop_supported && ru.history_data && ru.gateway_name == "sim1");
        let sc = contracts.get(&id("sc2506.INE")).expect("listed");
        assert_eq!((sc.long_margin_ratio, sc.short_margin_ratio), (Some(0.17), Some(0.16)));
        assert_eq!(sc.open_date, NaiveDate::from_ymd_opt(2022, 6, 1));
    }

    #[test]
    fn a_product_serves_futures_that_no_file_lists() {
        let mut contracts =
            load(&[], &[&format!("{PRODUCTS}IF,CFFEX,沪深,300,0.2,SD0930\ncu,SHFE,沪铜,5,10,FN0100\n")])
                .expect("valid");
        assert!(contracts.is_empty(), "a product is no contract");
        let contract = contracts.require(&id("IF2101.CFFEX")).expect("its product is known").clone();
        assert_eq!((contract.size, contract.pricetick, contract.name.as_str()), (300.0, 0.2, "沪深2101"));
        assert!(contract.stop_supported && contract.history_data);
        assert_eq!(contracts.get(&id("IF2101.CFFEX")), Some(&contract));
        for other in ["if2101.CFFEX", "IF2101.SHFE", "cu2101C50000.SHFE", "IF.CFFEX", "2101.CFFEX", "IF21011.CFFEX"] {
            assert!(contracts.require(&id(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn an_unknown_instrument_says_what_to_add_where() {
        let listed = file(&format!("{CTP}rb2410,SHFE,rb2410,rb,FUTURES,10,1,,,,,,,,x\n"));
        let mut contracts = Contracts::load(&[listed.path().into()], &[], &"sim1".into()).expect("valid");
        let error = contracts.require(&id("RB2410.SHFE")).expect_err("another case").to_string();
        assert!(error.contains("RB2410.SHFE") && error.contains("nearest known is rb2410.SHFE"), "{error}");
        assert!(error.contains(&listed.path().display().to_string()) && error.contains("row for `RB`"), "{error}");
    }

    #[test]
    fn the_nearest_prefers_the_exchange() {
        let mut contracts = load(&[], &[]).expect("nothing");
        assert_eq!(contracts.nearest(&id("rb2410.SHFE")), None);
        for known in ["rb2410.SHFE", "rb2405.SHFE", "rb2410.DCE", "au2412.SHFE"] {
            contracts.insert(Contract::new("sim1", id(known), Product::Futures, 1.0, 1.0));
        }
        assert_eq!(contracts.nearest(&id("RB2410.SHFE")), Some(id("rb2410.SHFE")));
        assert_eq!(contracts.nearest(&id("rb2410.DCE")), Some(id("rb2410.DCE")));
        assert_eq!(contracts.nearest(&id("au2411.SHFE")), Some(id("au2412.SHFE")));
    }

    #[test]
    fn the_file_given_last_wins_and_a_file_lists_a_symbol_once() {
        let row = |size: u32| format!("CF601,CZCE,CF601,CF,FUTURES,{size},5,,,,,,,,x\n");
        let contracts = load(&[&(CTP.to_owned() + &row(5)), &(CTP.to_owned() + &row(6))], &[]).expect("valid");
        assert_eq!(contracts.iter().map(|contract| contract.size).collect::<Vec<_>>(), [6.0]);
        let error = refused(&[&(CTP.to_owned() + &row(5) + &row(6))], &[]);
        assert!(error.contains("line 3") && error.contains("already in line 2"), "{error}");
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_column() {
        let bad = |row: &str| refused(&[&format!("{CTP}{row}\n")], &[]);
        let error = bad("rb2410,SHFE,rb,rb,FUTURES,ten,1,,,,,,,,x");
        assert!(error.contains("line 2, column `size`: `ten` must be a number above 0"), "{error}");
        assert!(bad("rb2410,SHFE,rb,rb,FUTURES,10,0,,,,,,,,x").contains("column `pricetick`: `0`"));
        assert!(bad("rb2410,SHFE,rb,rb,FUTURES,10,NaN,,,,,,,,x").contains("column `pricetick`: `NaN`"));
        assert!(bad("rb2410,SHFFE,rb,rb,FUTURES,10,1,,,,,,,,x").contains("unknown exchange `SHFFE`"));
        assert!(bad("rb2410,SHFE,rb,rb,FUTURE,10,1,,,,,,,,x").contains("unknown product `FUTURE`"));
        assert!(bad(",SHFE,rb,rb,FUTURES,10,1,,,,,,,,x").contains("column `symbol`: is empty"));
        assert!(bad("rb2410,SHFE,rb,rb,FUTURES,10,1,,,,,2024-13-01,,,x").contains("`2024-13-01` is no day"));
        assert!(bad("rb2410,SHFE").contains("line 2") || bad("rb2410,SHFE").contains("line: 2"));

        assert!(refused(&[""], &[]).contains("is empty"));
        assert!(refused(&["symbol,exchange\n"], &[]).contains("no column `name`"));
        assert!(refused(&[PRODUCTS], &[]).contains("looks like a product file"));
        assert!(refused(&[], &[CTP]).contains("looks like an instrument file"));
        let missing = Contracts::load(&["/nonexistent/i.csv".into()], &[], &"sim1".into()).expect_err("no file");
        assert!(format!("{missing:#}").contains("/nonexistent/i.csv"));
    }

    #[test]
    fn the_real_files_load() {
        let Some(dir) = super::super::recorded::tests::real_data() else { return };
        let dir = dir.join("instruments");
        let (tqsdk, ctp) = (dir.join("instruments_tqsdk_20200616.csv.gz"), dir.join("instruments_ctp_2025.csv.gz"));
        let name = Name::from("sim1");
        assert_eq!(Contracts::load(std::slice::from_ref(&tqsdk), &[], &name).expect("valid").len(), 2940);
        assert_eq!(Contracts::load(std::slice::from_ref(&ctp), &[], &name).expect("valid").len(), 789);
        let mut all =
            Contracts::load(&[tqsdk, ctp], &[dir.join("products_wondertrader.csv.gz")], &name).expect("valid");
        let ru = all.require(&id("ru1901.SHFE")).expect("listed");
        assert_eq!((ru.size, ru.pricetick), (10.0, 5.0));
        assert!(all.get(&id("IF2101.CFFEX")).is_none());
        let index = all.require(&id("IF2101.CFFEX")).expect("by product");
        assert_eq!((index.size, index.pricetick), (300.0, 0.2));
        assert_eq!(all.nearest(&id("RU1901.SHFE")), Some(id("ru1901.SHFE")));
    }
}
