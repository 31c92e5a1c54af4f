//! Standard output with errors instead of panics, so that a closed pipe ends the program quietly.

/// `println!` that returns the error to the caller.
macro_rules! say {
    ($($argument:tt)*) => {
        ::std::io::Write::write_fmt(&mut ::std::io::stdout(), format_args!("{}\n", format_args!($($argument)*)))?
    };
}

pub(crate) use say;
