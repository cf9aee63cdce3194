//! Who is told what the libraries say. Both are called on the library's own thread: return at once and never wait.

use crate::depth::Depth;
use crate::records::{MdEvent, TraderEvent};

/// Takes what the trader library says.
pub trait TraderHandler: Send + Sync {
    /// The next event, in the library's order.
    fn on_event(&self, event: TraderEvent);
}

/// Takes what the market data library says.
pub trait MdHandler: Send + Sync {
    /// The next event that is no depth, in the library's order.
    fn on_event(&self, event: MdEvent);
    /// The next depth record.
    fn on_depth(&self, depth: Depth<'_>);
}
