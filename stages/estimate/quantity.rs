//! Quantities for people: three digits and a unit.

/// `1.25 k`, `62.4 P`
pub fn si(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let unit = (value.max(1.0).log10() / 3.0).floor().min(6.0);
    let scaled = value / 1000_f64.powf(unit);
    let digits = if unit == 0.0 || scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {}", UNITS[unit as usize])
}

pub fn bytes(value: f64) -> String {
    format!("{}B", si(value))
}

pub fn duration(hours: f64) -> String {
    match hours {
        hours if hours >= 1.0 => format!("{hours:.1} h"),
        hours if hours >= 1.0 / 60.0 => format!("{:.1} min", hours * 60.0),
        hours => format!("{:.1} s", hours * 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let said: Vec<String> = [7.0, 1234.0, 960_000.0, 6.24e16, 3.1e21].iter().map(|value| si(*value)).collect();
        assert_eq!(said, ["7 ", "1.23 k", "960 k", "62.4 P", "3100 E"]);
        assert_eq!(bytes(65e9), "65.0 GB");
        assert_eq!([duration(57.25), duration(0.5), duration(0.001)], ["57.2 h", "30.0 min", "3.6 s"]);
    }
}
