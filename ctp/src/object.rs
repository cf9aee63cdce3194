//! An object that a library made, called through its table of methods.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;

use crate::slots::Slot;
use crate::version::Family;

/// An object of CTP's. It is not released when this value is dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object {
    this: *mut c_void,
    family: Family,
}

/// A slot that holds another method.
pub(crate) struct WrongSlot {
    pub slot: usize,
    pub method: &'static str,
    pub found: String,
}

// SAFETY: CTP's documentation has the objects' methods called from any thread, and by several at once: they lock for
// themselves. Only `release` must be the last call, which its owner sees to by taking itself by value.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    /// # Safety
    /// `this` is an object of a CTP library, with its table of methods first, and is not released.
    pub unsafe fn new(this: *mut c_void, family: Family) -> Object {
        Object { this, family }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether each of these slots holds its method, by the symbol that it points at.
    pub fn verify(&self, slots: &[Slot]) -> Result<(), WrongSlot> {
        for slot in slots {
            let at = slot.of(self.family);
            let symbol = symbol_at(self.address(at));
            if !symbol.as_ref().is_some_and(|symbol| slot.is_named_by(symbol, self.family)) {
                let found = symbol.unwrap_or_else(|| "something without a name".to_owned());
                return Err(WrongSlot { slot: at, method: slot.declared(self.family), found });
            }
        }
        Ok(())
    }

    /// What a slot points at.
    fn address(&self, slot: usize) -> *const c_void {
        // SAFETY: an object begins with the pointer to its table, whose length is more than a hundred for the trader's
        // oldest and 15 for market data; no slot that is asked for is beyond.
        unsafe { *(*self.this.cast::<*const *const c_void>()).add(slot) }
    }

    /// The function in a verified slot.
    ///
    /// # Safety
    /// `F` is a function pointer with that method's parameters, the object first.
    unsafe fn method<F: Copy>(&self, slot: Slot) -> F {
        const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
        // SAFETY: the caller says that it is such a function; the slot was verified before the object was handed out.
        unsafe { std::mem::transmute_copy(&self.address(slot.of(self.family))) }
    }

    /// `void method()`.
    ///
    /// # Safety
    /// The method has no parameters.
    pub unsafe fn call(&self, slot: Slot) {
        // SAFETY: as the caller says.
        unsafe { self.method::<unsafe extern "C" fn(*mut c_void)>(slot)(self.this) }
    }

    /// `void method(int)`.
    ///
    /// # Safety
    /// The method takes one number.
    pub unsafe fn call_with_number(&self, slot: Slot, number: i32) {
        // SAFETY: as the caller says.
        unsafe { self.method::<unsafe extern "C" fn(*mut c_void, i32)>(slot)(self.this, number) }
    }

    /// `void method(int, int)`.
    ///
    /// # Safety
    /// The method takes two numbers.
    pub unsafe fn call_with_two_numbers(&self, slot: Slot, first: i32, second: i32) {
        // SAFETY: as the caller says.
        unsafe { self.method::<unsafe extern "C" fn(*mut c_void, i32, i32)>(slot)(self.this, first, second) }
    }

    /// `void method(void *)`.
    ///
    /// # Safety
    /// The method takes such a pointer, and it stays valid for as long as the library uses it.
    pub unsafe fn call_with_pointer(&self, slot: Slot, pointer: *mut c_void) {
        // SAFETY: as the caller says.
        unsafe { self.method::<unsafe extern "C" fn(*mut c_void, *mut c_void)>(slot)(self.this, pointer) }
    }

    /// `void method(char *)`, with a text that the library copies.
    ///
    /// # Safety
    /// The method takes a text.
    pub unsafe fn call_with_text(&self, slot: Slot, text: &CStr) {
        // The parameter is not const: the library gets bytes of its own.
        let mut text = text.to_bytes_with_nul().to_vec();
        // SAFETY: as the caller says; the text outlives the call.
        unsafe { self.call_with_pointer(slot, text.as_mut_ptr().cast()) }
    }

    /// `const char *method()`.
    ///
    /// # Safety
    /// The method has no parameters and returns a text or null.
    pub unsafe fn text(&self, slot: Slot) -> String {
        // SAFETY: as the caller says; the text is the object's own and is copied at once.
        unsafe {
            let text = self.method::<unsafe extern "C" fn(*mut c_void) -> *const c_char>(slot)(self.this);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }

    /// `int method(Record *, int)`.
    ///
    /// # Safety
    /// The method takes a record and a number, and `record` is laid out as that record.
    pub unsafe fn request(&self, slot: Slot, mut record: RequestRecord, number: i32) -> i32 {
        // SAFETY: as the caller says; the record is larger than that of any version, and outlives the call.
        unsafe {
            self.method::<unsafe extern "C" fn(*mut c_void, *mut u8, i32) -> i32>(slot)(
                self.this,
                record.0.as_mut_ptr(),
                number,
            )
        }
    }

    /// `int method(char *[], int)`.
    ///
    /// # Safety
    /// The method takes a list of texts and its length.
    pub unsafe fn request_list(&self, slot: Slot, texts: &[CString]) -> i32 {
        let Ok(count) = i32::try_from(texts.len()) else { return -1 };
        let mut pointers: Vec<*mut c_char> = texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
        // SAFETY: as the caller says; texts and pointers outlive the call, and the library reads the texts only.
        unsafe {
            self.method::<unsafe extern "C" fn(*mut c_void, *mut *mut c_char, i32) -> i32>(slot)(
                self.this,
                pointers.as_mut_ptr(),
                count,
            )
        }
    }
}

/// A zeroed record to be filled and sent: aligned as C++ expects it, and longer than any version's, so that a newer
/// library that reads on finds zeros.
#[repr(C, align(8))]
#[derive(Clone)]
pub struct RequestRecord(pub [u8; RequestRecord::LEN]);

impl RequestRecord {
    /// The longest record that is sent has 408 bytes (`CThostFtdcInputOrderField`).
    pub const LEN: usize = 1024;

    /// All zero.
    #[must_use]
    pub fn zeroed() -> RequestRecord {
        RequestRecord([0; RequestRecord::LEN])
    }
}

/// The name of the exported symbol that begins at an address.
fn symbol_at(address: *const c_void) -> Option<String> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr takes any address; where it says that it found something, it has filled what it was given, and the
    // name belongs to a library that is never closed.
    unsafe {
        if libc::dladdr(address, found.as_mut_ptr()) == 0 {
            return None;
        }
        let found = found.assume_init();
        let name = found.dli_sname;
        // Otherwise it is only the nearest one before it.
        let begins_here = std::ptr::eq(found.dli_saddr, address);
        (!name.is_null() && begins_here).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}
