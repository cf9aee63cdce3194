//! CTP, the counter of China's futures exchanges, through whichever libraries a broker hands out: they are opened by
//! path at run time, the family of their binary interface is chosen from their version, and every slot that is called is
//! verified first.
//!
//! No trading logic lives here: what a library says comes out as [`TraderEvent`]s and [`MdEvent`]s, what it is asked
//! goes in as [`Request`]s, and what CTP's records mean in Gatemesh's terms is decided by plain functions.

pub mod account;
pub mod contract;
pub mod dates;
mod decode;
pub mod depth;
mod encode;
#[cfg(test)]
mod facts;
mod field;
mod flow;
mod front;
pub mod handler;
mod layout;
mod library;
mod md;
mod md_spi;
mod object;
pub mod position;
pub mod records;
pub mod requests;
mod slots;
mod spi;
#[doc(hidden)]
pub mod testing;
pub mod tick;
mod trader;
mod trader_spi;
pub mod trading;
mod version;

pub use encode::{EncodeError, check_identity};
pub use front::{FrontError, check_front, check_fronts};
pub use handler::{MdHandler, TraderHandler};
pub use library::{Kind, LoadError, leave};
pub use md::{MdApi, MdLibrary};
pub use records::{MdEvent, TraderEvent};
pub use requests::Request;
pub use trader::{TraderApi, TraderLibrary};
pub use version::{Family, UnknownFamily, Unserved, Version};
