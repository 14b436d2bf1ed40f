//! Measures that are the same on every machine.

use std::{cell::Cell, rc::Rc};

use lua_filter::luajit::{Filter, Lines};
use mlua::{HookTriggers, VmState};

/// Instructions of the virtual machine that a request takes, uncompiled.
pub(crate) fn instructions(filter: &Filter, request: &Lines, now: i64) -> u64 {
    filter.lua().load("jit.off() jit.flush()").exec().unwrap();
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let every = HookTriggers::new().every_nth_instruction(1);
    filter
        .lua()
        .set_hook(every, move |_, _| {
            counter.set(counter.get() + 1);
            Ok(VmState::Continue)
        })
        .unwrap();
    filter.decide(request.iter().map(|(name, value)| (&**name, &**value)), now).unwrap();
    filter.lua().remove_hook();
    count.get()
}
