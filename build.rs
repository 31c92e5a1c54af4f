//! Links the program at a fixed address. Moving it to a random one costs a page fault for every page of pointers, 9 ms
//! of a start that otherwise takes 3, and a run with nothing to do takes little more than a start.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
