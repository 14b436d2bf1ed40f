;; A filter that traps on every request with the header `x-trap`, and removes `microservice-a` from the others. It shows what
;; Envoy does when a filter traps.
(module
  (import "env" "proxy_get_header_map_value"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value"
    (func $remove (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "x-trap")
  (data (i32.const 16) "microservice-a")
  (func (export "proxy_abi_version_0_2_1"))
  ;; The proxy writes everything to the same address, because nothing is kept.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (call $get (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 64) (i32.const 68)))
      (then unreachable))
    (drop (call $remove (i32.const 0) (i32.const 16) (i32.const 14)))
    (i32.const 0)))
