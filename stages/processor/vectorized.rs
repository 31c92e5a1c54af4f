//! Loops that are compiled several times, for the baseline instruction set and for wider vectors.

/// Compiles functions for the baseline instruction set and for AVX2, and after `avx512:` for AVX-512 too, and picks at run time by
/// [`instructions`](super::instructions). A body is a loop over slices; its arguments are plain names.
macro_rules! vectorized {
    (avx512: $($functions:tt)*) => { $crate::processor::vectorized! { @each (avx512) $($functions)* } };
    (@each ($($wide:ident)?)) => {};
    (@each ($($wide:ident)?)
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $kind),*) $(-> $result)? {
            $crate::processor::vectorized! {
                @wide ($($wide)?) ($($argument: $kind),*) ($($result)?) $body
            }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $kind),*) $(-> $result)? $body

                if $crate::processor::instructions() >= $crate::processor::Instructions::Avx2 {
                    // SAFETY: the processor has AVX2.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $body
        }
        $crate::processor::vectorized! { @each ($($wide)?) $($rest)* }
    };
    (@wide () $arguments:tt $result:tt $body:block) => {};
    (@wide (avx512) ($($argument:ident: $kind:ty),*) ($($result:ty)?) $body:block) => {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f")]
            fn wide($($argument: $kind),*) $(-> $result)? $body

            if $crate::processor::instructions() >= $crate::processor::Instructions::Avx512 {
                // SAFETY: the processor has AVX-512F.
                return unsafe { wide($($argument),*) };
            }
        }
    };
    ($($functions:tt)*) => { $crate::processor::vectorized! { @each () $($functions)* } };
}
pub(crate) use vectorized;
