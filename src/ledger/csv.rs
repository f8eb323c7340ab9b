//! Lines of a CSV.

/// Writes a line of a CSV. A text that a spreadsheet would take for a formula gets a quote before it.
pub fn csv_line(out: &mut Vec<u8>, cells: impl IntoIterator<Item = String>) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let number = cell.parse::<f64>().is_ok();
        let formula = !number && cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if !formula && !cell.contains([',', '"', '\n', '\r']) {
            out.extend_from_slice(cell.as_bytes());
            continue;
        }
        out.push(b'"');
        if formula {
            out.push(b'\'');
        }
        out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cells: &[&str]) -> String {
        let mut out = Vec::new();
        csv_line(&mut out, cells.iter().map(|cell| (*cell).to_owned()));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_csv_reads_back_and_holds_no_formula() {
        assert_eq!(line(&["a", "", "-1.5", "b"]), "a,,-1.5,b\r\n");
        assert_eq!(
            line(&["a,b", "c\"d", "e\nf"]),
            "\"a,b\",\"c\"\"d\",\"e\nf\"\r\n"
        );
        assert_eq!(
            line(&["=cmd()", "@x", "-x"]),
            "\"'=cmd()\",\"'@x\",\"'-x\"\r\n"
        );
    }
}
