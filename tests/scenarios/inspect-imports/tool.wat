(component
  (import "wasi:logging/logging@0.1.0-draft" (instance
    (export "log" (func (param "level" u8) (param "context" string) (param "message" string)))))
  (import "acme:other/thing" (instance (export "do" (func))))
)
