//! What the command line prints, and where: colours, how much, in which order, from which folder.

use std::process::{Command, Output};

use crate::workspace::{Workspace, chat, chats, stderr, stdout};

/// One dataset whose examples cannot be read, beside one that can.
fn broken() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("one.jsonl", format!("{}{{\"messages\": []}}\n", chat("a question", "an answer")));
    workspace
}

fn both(output: &Output) -> String {
    stdout(output) + &stderr(output)
}

#[test]
fn quiet_prints_errors_alone() {
    let workspace = broken();
    let output = workspace.strata(&["run", "-q", "--keep-going"]);
    assert_eq!(stdout(&output), "");
    let errors = stderr(&output);
    assert!(errors.lines().count() == 1 && errors.starts_with("error: examples[one]: "), "{errors}");
    workspace.write("one.jsonl", chats("one", 24));
    assert_eq!(both(&workspace.strata(&["run", "-q"])), "");
    assert_eq!(both(&workspace.strata(&["-q", "run"])), "", "nor where nothing is left to do");
    assert_eq!(both(&workspace.strata(&["push", "-q", "--to", "elsewhere"])), "");
    assert_eq!(both(&workspace.strata(&["verify", "-q"])), "");
    // What was asked for is no chatter.
    assert!(workspace.ok(&["query", "-q", "SELECT COUNT(*) AS n FROM tokens"]).contains('n'));
}

#[test]
fn failures_come_last_and_an_old_report_is_not_shown() {
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", workspace.read("pipeline.toml") + "[stages.loss_summary]\n[stages.report]\n");
    let first = workspace.ok(&["run"]);
    assert!(first.contains("report: ") && first.contains("report.html"), "{first}");
    assert!(workspace.ok(&["run"]).contains("report: "), "a run with nothing to do has a report");
    workspace.write("one.jsonl", "{\"messages\": []}\n");
    let output = workspace.strata(&["run", "--keep-going"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stdout(&output).contains("report: "), "{}", stdout(&output));
    assert!(workspace.path("artifacts/report/report.html").exists(), "the old one is still there");
    let errors = stderr(&output);
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: examples[one]: ") && last.contains("one.jsonl:1"), "{errors}");
    assert_eq!(errors.matches("one.jsonl:1").count(), 1, "said once: {errors}");
}

#[test]
fn a_run_says_how_far_it_is_and_when_it_ended() {
    let workspace = Workspace::new();
    let output = workspace.strata(&["run", "tokens"]);
    let lines = stderr(&output);
    assert!(lines.lines().any(|line| line.starts_with("tokens[base,one]") && line.contains('/')), "{lines}");
    let summary = stdout(&output);
    let year = Command::new("date").arg("+%Y-").output().map(|output| stdout(&output)).unwrap_or_default();
    assert!(summary.contains(&format!(" s, {}", year.trim())), "{summary}");
    assert!(workspace.ok(&["tables", "tokens"]).contains(year.trim()));
}

#[test]
fn colour_is_as_asked() {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", "[modles]\n");
    let coloured = |arguments: &[&str], variable: Option<&str>| {
        let mut command = workspace.command(arguments);
        if let Some(name) = variable {
            command.env(name, "1");
        }
        stderr(&command.output().expect("the program starts")).contains('\u{1b}')
    };
    assert!(!coloured(&["run"], None), "not where standard error is no terminal");
    assert!(coloured(&["run", "--color", "always"], None));
    assert!(coloured(&["--color=always", "run", "--no-such-flag"], None), "in errors of the arguments too");
    assert!(coloured(&["run"], Some("CLICOLOR_FORCE")));
    assert!(!coloured(&["run", "--color", "never"], Some("CLICOLOR_FORCE")));
    assert!(coloured(&["run", "--color", "always"], Some("NO_COLOR")), "what is asked for goes before the environment");
    assert!(workspace.fails(2, &["run", "--color", "sometimes"]).contains("auto, always, never"));
}

#[test]
fn the_pipeline_is_found_from_a_folder_below() {
    let workspace = Workspace::new();
    workspace.write("notes/today/x.md", "");
    let below = |arguments: &[&str]| {
        workspace.command(arguments).current_dir(workspace.path("notes/today")).output().expect("the program starts")
    };
    let output = below(&["run", "tokens"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(workspace.path("artifacts/tables/tokens").exists() && !workspace.path("notes/today/artifacts").exists());
    assert!(stdout(&below(&["status", "tokens"])).contains("tokens"));
    // A file that is named is that one, and no other.
    let named = below(&["--pipeline", "pipeline.toml", "status"]);
    assert_eq!(named.status.code(), Some(2));
    // The nearest one counts.
    workspace.write("notes/pipeline.toml", "[modles]\n");
    assert!(stderr(&below(&["status"])).contains("modles"));
}

#[test]
fn a_table_of_a_query_is_for_people_and_files_are_exact() {
    let workspace = Workspace::new();
    workspace.run(&["token_losses"]);
    let sql =
        "SELECT logprob FROM token_losses WHERE model = 'base' AND dataset = 'one' AND logprob IS NOT NULL LIMIT 1";
    let shown = workspace.ok(&["query", sql]);
    let exact = workspace.ok(&["query", sql, "--format", "csv"]);
    let (shown, exact) = (shown.lines().nth(1).unwrap_or_default().trim(), exact.lines().nth(1).unwrap_or_default());
    let digits = |text: &str| text.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
    assert!(digits(shown) <= 5 && digits(exact) > 5, "{shown} of {exact}");
    let (shown, exact): (f64, f64) = (shown.parse().expect("a number"), exact.parse().expect("a number"));
    assert!((shown / exact - 1.0).abs() < 1e-4, "{shown} of {exact}");
}

/// The words that a shell is given, as bash asks for them.
fn completed(workspace: &Workspace, words: &[&str]) -> Vec<String> {
    let line = [&["--", "strata"], words].concat();
    let mut command = workspace.command(&line);
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(str::to_string).collect()
}

#[test]
fn a_shell_completes_stages_names_and_tables() {
    let workspace = Workspace::new();
    assert!(workspace.ok(&["completions", "bash"]).contains("COMPLETE="));
    let function = workspace.ok(&["completions", "zsh"]);
    assert!(function.contains("compdef"), "{function}");
    assert_eq!(completed(&workspace, &["run", "token_"]), ["token_losses"]);
    assert_eq!(
        completed(&workspace, &["status", "hidden_states["]),
        ["hidden_states[base,", "hidden_states[instruct,"]
    );
    assert_eq!(
        completed(&workspace, &["explain", "hidden_states[base,"]),
        ["hidden_states[base,one]", "hidden_states[base,two]"]
    );
    // Tables are those of the program; a stage that the pipeline does not have is no target.
    assert_eq!(completed(&workspace, &["tables", "patc"]), ["patching", "patching_summary"]);
    assert!(completed(&workspace, &["run", "patc"]).is_empty());
    assert!(completed(&workspace, &["sta"]).contains(&"status".to_string()));
    assert!(completed(&Workspace::empty(), &["run", "tok"]).is_empty(), "no pipeline, no stages");
}

#[test]
fn targets_take_patterns() {
    let workspace = Workspace::new();
    let planned = |target: &str| -> Vec<String> {
        let shown = workspace.ok(&["status", "-v", target, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["stages"].as_object().expect("stages").keys().cloned().collect()
    };
    assert_eq!(planned("token*"), ["examples", "token_losses", "tokens"]);
    workspace.run(&["tokens[b*,?ne]"]);
    assert!(workspace.path("artifacts/tables/tokens/model=base/dataset=one").exists());
    assert!(!workspace.path("artifacts/tables/tokens/model=base/dataset=two").exists());
    assert!(!workspace.path("artifacts/tables/tokens/model=instruct").exists());
    let error = workspace.fails(2, &["run", "tokens[x*]"]);
    assert!(error.contains("x*") && error.contains("base, instruct"), "{error}");
}
