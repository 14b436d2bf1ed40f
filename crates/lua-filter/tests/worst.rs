//! The script's time is linear in the size of a request, whatever a client sends.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use bench_inputs::{Input, NOW};
use lua_harness::{Script, borrowed};
use routing_claims::Policy;

#[test]
fn twice_the_bytes_cost_about_twice_as_much() {
    let mut steep = Vec::new();
    for (one, two) in bench_inputs::worst(1).iter().zip(bench_inputs::worst(2)) {
        let times = cost(&two) / cost(one);
        println!("{times:.2} times as much for twice the bytes: {}", one.name);
        // A quadratic cost would be four times as much.
        if times > 2.5 {
            steep.push(two.name);
        }
    }
    assert!(steep.is_empty(), "the cost of these grows faster than their size: {steep:?}");
}

/// Instructions of the virtual machine, and bytes that library functions look at or make, which it does not count.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn cost(input: &Input) -> f64 {
    let source = lua_filter::source(&Policy::from_json(input.policy.to_string().as_bytes()).unwrap());
    let instructions = Script::new(&source).unwrap().count_instructions(borrowed(&input.lines), NOW).unwrap();
    let counting = Script::new(&format!("{COUNT_BYTES} {source}")).unwrap();
    counting.run(borrowed(&input.lines), NOW).unwrap();
    let bytes: u64 = counting.lua().globals().get("touched").unwrap();
    (instructions + bytes) as f64
}

/// Has the library's functions that the script uses count in `touched` the bytes that they look at or make.
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
