//! What the fake CTP libraries share. A fake is told by files what to do:
//!
//! - beside the library, `<library>.version`: its first line is what `GetApiVersion` says, its second the family of its
//!   table of methods. Without the file: 6.7.2 and A. A copy of the library under another name is another library.
//! - in the flow directory, `script.json`: see [`script`]. It is read when the object is made.
//! - in the flow directory, `tell.jsonl`: a line appended there while the object lives is told at once; each is a
//!   [`script::Tell`].
//!
//! What is asked goes line by line to `requests.jsonl` in the flow directory: the method, its number, what it returned
//! and the fields that are not zero.

pub mod identity;
pub mod record;
pub mod script;
pub mod slots;
pub mod spi;
pub mod worker;
