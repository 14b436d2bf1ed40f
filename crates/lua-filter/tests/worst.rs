//! No byte that a client sends costs much more than a typical byte, so the cost of hostile input stays linear.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use bench_inputs::{Input, NOW};
use lua_harness::{Script, borrowed};
use routing_claims::Policy;

#[test]
fn no_byte_costs_more_than_four_typical_ones() {
    let typical = bench_inputs::typical().into_iter().find(|input| input.name == "8 KB payload").unwrap();
    let limit = 4.0 * cost_per_byte(&typical);
    let mut expensive = Vec::new();
    for input in bench_inputs::worst() {
        let cost = cost_per_byte(&input);
        println!("{:8.1} a byte, {:.1} times a typical one: {}", cost, 4.0 * cost / limit, input.name);
        if cost > limit {
            expensive.push(input.name);
        }
    }
    assert!(expensive.is_empty(), "more than {limit:.1} a byte: {expensive:?}");
}

/// Instructions of the virtual machine, plus the bytes that library functions read or create, which it does not count.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn cost_per_byte(input: &Input) -> f64 {
    let source = lua_filter::source(&Policy::from_json(input.policy.to_string().as_bytes()).unwrap());
    let instructions = Script::new(&source).unwrap().count_instructions(borrowed(&input.lines), NOW).unwrap();
    let counting = Script::new(&format!("{COUNT_BYTES} {source}")).unwrap();
    counting.run(borrowed(&input.lines), NOW).unwrap();
    let bytes: u64 = counting.lua().globals().get("touched").unwrap();
    (instructions + bytes) as f64 / input.bytes() as f64
}

/// Makes the library functions that the script uses count in `touched` the bytes that they read or create.
const COUNT_BYTES: &str = r"
    touched = 0
    local find, sub, lower, char, concat, sort = string.find, string.sub, string.lower, string.char, table.concat, table.sort
    local function made(text)
      touched = touched + #text
      return text
    end
    string.find = function(text, pattern, from, plain)
      local first, last = find(text, pattern, from, plain)
      touched = touched + (last or #text) - (from or 1) + 1
      return first, last
    end
    string.sub = function(...) return made(sub(...)) end
    string.lower = function(text) return made(lower(text)) end
    string.char = function(...) return made(char(...)) end
    table.concat = function(...) return made(concat(...)) end
    table.sort = function(list, before)
      return sort(list, function(a, b)
        touched = touched + math.min(#a.header, #b.header)
        return before(a, b)
      end)
    end
";
