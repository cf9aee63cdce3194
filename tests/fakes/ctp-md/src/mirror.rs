//! LocalCTP in the same process, told of the market.
//!
//! LocalCTP has no market of its own: it matches an object's orders with the depth records that this very object is
//! given, by `RegisterFensUserInfo`, which it has for that alone. Its objects are in a static set, which its library
//! exports; so the client that trades with it need not know of this.

#![allow(unsafe_code)]

use std::ffi::{OsStr, c_void};
use std::path::Path;

use ctp_fake::record::Record;
use ctp_fake::slots;
use libloading::os::unix::{Library, RTLD_NOW};

/// `localCTP::CLocalTraderApi::trade_api_set`, a `std::set<std::shared_ptr<CLocalTraderApi>>`.
const OBJECTS: &[u8] = b"_ZN8localCTP15CLocalTraderApi13trade_api_setE\0";

/// A `std::set` in libstdc++'s layout, which its binary interface fixes: a tree whose header's `parent` is the root.
#[repr(C)]
struct Set {
    compare: usize,
    header: Links,
    count: usize,
}

#[repr(C)]
struct Links {
    colour: usize,
    parent: *const Node,
    left: *const Node,
    right: *const Node,
}

/// A node with a `std::shared_ptr`, which begins with the pointer.
#[repr(C)]
struct Node {
    links: Links,
    object: *mut c_void,
    owners: *const c_void,
}

/// The objects of a LocalCTP library that the process has loaded.
pub struct Mirror {
    objects: *const Set,
    slot: usize,
}

// SAFETY: it points at a static of a library that is never unloaded, and is only read.
unsafe impl Send for Mirror {}

impl Mirror {
    /// The library of this path; loading it again gives the one that the client has.
    ///
    /// # Panics
    /// If it is not LocalCTP: a test's mistake.
    pub fn of(path: &Path) -> Mirror {
        // SAFETY: it is loaded already, or its initialisers run as they would have for the client.
        let library = unsafe { Library::open(Some(path.as_os_str() as &OsStr), RTLD_NOW) }
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // SAFETY: the symbol is that static.
        let objects = unsafe { library.get::<*const Set>(OBJECTS) };
        let objects = objects.unwrap_or_else(|error| panic!("{} is no LocalCTP: {error}", path.display())).into_raw();
        // Never closed.
        std::mem::forget(library);
        let slot = slots::methods("trader-api", "A").iter().position(|method| *method == "RegisterFensUserInfo");
        Mirror { objects: objects.cast(), slot: slot.expect("every version has it") }
    }

    /// Tells every object of a depth record; says how many there are. Not while the client makes or releases one.
    pub fn tell(&self, depth: &mut Record) -> usize {
        // SAFETY: the set lives as long as the library. Nobody changes it meanwhile: tests tell of the market only while
        // the client is logged in. The table of an object has this method in this slot, and the record is as long as
        // CTP's.
        unsafe {
            let mut ahead = vec![(*self.objects).header.parent];
            let mut told = 0;
            while let Some(node) = ahead.pop() {
                let Some(node) = node.as_ref() else { continue };
                let method = *(*node.object.cast::<*const usize>()).add(self.slot);
                let method: unsafe extern "C" fn(*mut c_void, *mut u8) = std::mem::transmute(method);
                method(node.object, depth.bytes.as_mut_ptr());
                told += 1;
                ahead.extend([node.links.left, node.links.right]);
            }
            told
        }
    }
}
