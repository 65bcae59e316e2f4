(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
    (func (export "half") (param i32) (result i32)
      (if (result i32) (i32.and (local.get 0) (i32.const 1))
        (then (i32.const 1))
        (else (i32.const 0)))))
  (core instance $i (instantiate $m))
  (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
  (func $even (param "n" u32) (result (result)) (canon lift (core func $i "half")))
  (instance $math (export "add" (func $add)) (export "even" (func $even)))
  (export "docs:adder/math@1.0.0" (instance $math))
)
