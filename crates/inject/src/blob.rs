//! The machine code that runs in the target, and where everything lies in it.
