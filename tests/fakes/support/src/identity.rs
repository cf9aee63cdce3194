//! What a fake says that it is: by the file beside it.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What a fake says of itself.
pub struct Identity {
    /// What `GetApiVersion` returns.
    pub version: CString,
    /// `A` to `E`.
    pub family: String,
}

/// The identity of the library that this code was linked into.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let text = std::fs::read_to_string(own_path().with_added_extension("version")).unwrap_or_default();
        let mut lines = text.lines();
        let version = lines.next().unwrap_or("v6.7.2_20230913 10:48:10.4926");
        let family = lines.next().unwrap_or("A").to_owned();
        Identity { version: CString::new(version).unwrap_or_default(), family }
    })
}

/// Where this library was loaded from.
fn own_path() -> PathBuf {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr takes any address; this function's is in a library that is loaded.
    unsafe {
        if libc::dladdr(own_path as *const c_void, found.as_mut_ptr()) == 0 {
            return PathBuf::new();
        }
        let name = found.assume_init().dli_fname;
        if name.is_null() { PathBuf::new() } else { PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())) }
    }
}
