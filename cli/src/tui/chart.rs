//! Values → bars of block characters.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where nothing was measured.
const ABSENT: char = '·';

/// Lines of bars, the newest at the right, scaled to what is full, or to the highest. What was measured is never blank: the lowest bar
/// stands for everything up to an eighth of a line. Blank is what lies before the first value.
pub(super) fn lines(values: &[Option<f64>], full: Option<f64>, columns: usize, rows: usize) -> Vec<String> {
    let values = &values[values.len().saturating_sub(columns)..];
    let full = full.unwrap_or_else(|| values.iter().flatten().copied().fold(0.0, f64::max));
    let mut lines = vec![" ".repeat(columns - values.len()); rows];
    for value in values {
        let height = value.map(|value| eighths(value, full, rows));
        for (line, text) in lines.iter_mut().enumerate() {
            let below = (rows - 1 - line) * BARS.len();
            text.push(match height {
                None if below == 0 => ABSENT,
                None => ' ',
                Some(height) => match height.saturating_sub(below) {
                    0 => ' ',
                    filled => BARS[filled.min(BARS.len()) - 1],
                },
            });
        }
    }
    lines
}

fn eighths(value: f64, full: f64, rows: usize) -> usize {
    let all = (rows * BARS.len()) as f64;
    let share = if full > 0.0 && value.is_finite() { (value / full).clamp(0.0, 1.0) } else { 0.0 };
    ((share * all).round() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_scaled_to_the_highest_and_nothing_measured_is_blank() {
        let values = [Some(0.0), None, Some(1.0), Some(8.0), Some(16.0)];
        assert_eq!(lines(&values, None, 7, 2), ["      █", "  ▁·▁██"]);
        assert_eq!(lines(&values, None, 2, 1), ["▄█"], "the newest");
        assert_eq!(lines(&values, Some(32.0), 2, 1), ["▂▄"]);
    }

    #[test]
    fn nonsense_breaks_nothing() {
        assert_eq!(lines(&[], None, 3, 1), ["   "]);
        assert_eq!(lines(&[Some(0.0), Some(0.0)], None, 2, 1), ["▁▁"]);
        assert_eq!(lines(&[Some(f64::NAN), Some(-1.0), Some(f64::INFINITY)], None, 3, 1), ["▁▁▁"]);
        assert_eq!(lines(&[Some(1.0)], None, 0, 1), [""]);
        assert_eq!(lines(&[Some(1.0)], None, 3, 0), Vec::<String>::new());
    }
}
