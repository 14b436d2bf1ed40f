//! The one file that touches the proxy's ABI (proxy-wasm 0.2.1, `spec/proxy-wasm` "ABI v0.2.1").
//!
//! Only the callbacks that the filter needs are exported: Envoy calls each one it finds, for every request. The SDK
//! exports all of them, weighs half of what the module may weigh, and panics, which takes the VM down, on statuses that
//! it does not expect and on header names that are not UTF-8.
#![allow(unsafe_code, reason = "the ABI is unmangled names and raw pointers")]

use std::{cell::RefCell, collections::HashMap, ptr};

use crate::Filter;

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// What the proxy knows by number.
#[derive(Default)]
struct Contexts {
    /// Configurations of the filter.
    filters: HashMap<u32, Filter>,
    /// Requests under way, each with the number of its configuration.
    requests: HashMap<u32, u32>,
}

/// Says which ABI this module speaks; never called. Under this one the proxy chooses the route anew by itself when a header of
/// the request was changed (R15). Later ones want the foreign function `clear_route_cache` called for it, which costs 0.7 µs.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Allocates what the proxy is about to write; `take` frees it.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

/// A new configuration has no parent; a new request has its configuration's number.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent != 0 {
        with_contexts(|contexts| {
            contexts.requests.insert(context, parent);
        });
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_context: u32, _configuration_size: usize) -> u32 {
    ACCEPT
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, configuration_size: usize) -> u32 {
    match Filter::configure(&configuration(configuration_size)) {
        Ok(filter) => {
            with_contexts(|contexts| {
                contexts.filters.insert(context, filter);
            });
            ACCEPT
        }
        Err(reason) => {
            log_error(&format!("routing-claims: {reason}"));
            REFUSE
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _lines: usize, _end_of_stream: u32) -> u32 {
    with_contexts(|contexts| {
        let parent = contexts.requests.get(&context);
        if let Some(filter) = parent.and_then(|parent| contexts.filters.get_mut(parent)) {
            filter.handle_request();
        }
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    with_contexts(|contexts| {
        if contexts.requests.remove(&context).is_none() {
            contexts.filters.remove(&context);
        }
    });
}

fn with_contexts(act: impl FnOnce(&mut Contexts)) {
    // A proxy does not call back while a call to it is under way, so nothing else holds the contexts.
    CONTEXTS.with(|contexts| {
        if let Ok(mut contexts) = contexts.try_borrow_mut() {
            act(&mut contexts);
        }
    });
}

/// All header lines of a request, in the proxy's own serialization: their count, then the lengths of each name and
/// value, then the names and values, each closed by a NUL; numbers are 32-bit little-endian.
pub(crate) struct RequestHeaders(Vec<u8>);

/// A counter of the proxy.
pub(crate) struct Counter(u32);

impl RequestHeaders {
    /// Asks the proxy, once for all lines. None are read when it does not answer.
    pub(crate) fn read() -> Self {
        // SAFETY: the proxy writes both results during the call.
        Self(take(|data, size| unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, data, size) }))
    }

    /// Name and value of each line.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, rest) = take_number(&self.0).unwrap_or_default();
        let (mut lengths, mut texts) =
            count.checked_mul(8).and_then(|end| rest.split_at_checked(end)).unwrap_or_default();
        std::iter::from_fn(move || {
            let (name_length, rest) = take_number(lengths)?;
            let (value_length, rest) = take_number(rest)?;
            lengths = rest;
            let (name, rest) = texts.split_at_checked(name_length)?;
            let (value, rest) = rest.get(1..)?.split_at_checked(value_length)?;
            texts = rest.get(1..)?;
            Some((name, value))
        })
    }
}

impl Counter {
    /// Finds or makes the counter of this name.
    pub(crate) fn define(name: &str) -> Result<Self, String> {
        let mut metric = 0;
        // SAFETY: the name is one string, and the proxy writes the result during the call.
        let status = unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut metric) };
        if status == OK {
            Ok(Self(metric))
        } else {
            Err(format!("the proxy refused the counter {name}: status {status}"))
        }
    }

    pub(crate) fn add(&self, count: u32) {
        // SAFETY: no memory is passed.
        unsafe { proxy_increment_metric(self.0, count.into()) };
    }
}

/// The time in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> i64 {
    let mut nanoseconds = 0_u64;
    // SAFETY: the pointer is valid for writes during the call.
    unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Removes all lines of a header.
pub(crate) fn remove_request_header(name: &[u8]) {
    // SAFETY: the pointer and length are of one slice.
    unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
}

/// Makes a header have one line of this value.
pub(crate) fn set_request_header(name: &str, value: &str) {
    // SAFETY: each pointer and length are of one string.
    unsafe {
        proxy_replace_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len());
    }
}

/// The filter's configuration; empty when the proxy does not give it.
fn configuration(size: usize) -> Vec<u8> {
    // SAFETY: the proxy writes both results during the call.
    take(|data, size_written| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, size_written) })
}

fn log_error(message: &str) {
    // SAFETY: the pointer and length are of one string.
    unsafe { proxy_log(ERROR, message.as_ptr(), message.len()) };
}

/// What a call gives in memory that the proxy asked us for; nothing when it fails.
fn take(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Vec<u8> {
    let (mut data, mut size) = (ptr::null_mut::<u8>(), 0);
    if call(&raw mut data, &raw mut size) != OK || data.is_null() {
        return Vec::new();
    }
    // SAFETY: `data` came from `proxy_on_memory_allocate`, which leaked a boxed slice of `size` bytes, and is ours alone.
    unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)) }.into_vec()
}

fn take_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

const OK: u32 = 0;
const REFUSE: u32 = 0;
const ACCEPT: u32 = 1;
const CONTINUE: u32 = 0;
const REQUEST_HEADERS: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const COUNTER: u32 = 0;
const ERROR: u32 = 4;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
}
