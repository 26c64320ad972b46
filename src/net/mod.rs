//! Bytes in, bytes out: TCP sockets and their buffers. Knows no MQTT.
pub mod output;
