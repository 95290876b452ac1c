//! What a change costs by the number of clusters, as a picture (SVG). Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Results;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;

/// `None` where fewer than two numbers of clusters were measured.
pub fn plot(results: &Results) -> Option<String> {
    let lines = [
        ("p50, ms", "#1f77b4", &results.change_p50_ms_by_clusters),
        ("p99, ms", "#d62728", &results.change_p99_ms_by_clusters),
    ];
    let cpu = ("CPU, us", "#2ca02c", &results.cpu_us_per_change_by_clusters);
    if results.change_p99_ms_by_clusters.len() < 2 {
        return None;
    }
    let highest = |figures: &BTreeMap<u32, f64>| figures.values().copied().fold(0.0, f64::max);
    let most_ms = lines.iter().map(|(_, _, figures)| highest(figures)).fold(1e-9, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\">One change, from its cluster to an agent, by the number of clusters (logarithmic)</text>\n"
    );
    let clusters: Vec<u32> = results.change_p99_ms_by_clusters.keys().copied().collect();
    for count in &clusters {
        text(&mut svg, x(*count, &clusters), HEIGHT - MARGIN + 20.0, "black", &count.to_string());
    }
    for (name, color, figures) in lines {
        line(&mut svg, figures, &clusters, most_ms, color, name);
    }
    let (name, color, figures) = cpu;
    line(&mut svg, figures, &clusters, highest(figures).max(1e-9), color, name);
    svg.push_str("</svg>\n");
    Some(svg)
}

fn x(count: u32, clusters: &[u32]) -> f64 {
    let most = clusters.iter().copied().max().unwrap_or(1);
    let share = f64::from(count.max(1)).ln() / f64::from(most.max(2)).ln();
    MARGIN + share * (WIDTH - 2.0 * MARGIN)
}

fn line(svg: &mut String, figures: &BTreeMap<u32, f64>, clusters: &[u32], most: f64, color: &str, name: &str) {
    let y = |figure: f64| HEIGHT - MARGIN - figure / most * (HEIGHT - 2.0 * MARGIN) * 0.9;
    let points: Vec<String> =
        figures.iter().map(|(count, figure)| format!("{:.1},{:.1}", x(*count, clusters), y(*figure))).collect();
    writeln!(svg, "<polyline fill=\"none\" stroke=\"{color}\" points=\"{}\"/>", points.join(" ")).ok();
    for (count, figure) in figures {
        text(svg, x(*count, clusters), y(*figure) - 6.0, color, &figure.to_string());
    }
    if let Some(first) = figures.values().next() {
        text(svg, 4.0, y(*first), color, name);
    }
}

fn text(svg: &mut String, x: f64, y: f64, color: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\">{text}</text>").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_measured_point_and_none_is_drawn_of_one() {
        let mut results = Results::default();
        results.change_p99_ms_by_clusters.insert(1, 4.0);
        assert_eq!(plot(&results), None);
        results.change_p99_ms_by_clusters.insert(250, 8.5);
        results.cpu_us_per_change_by_clusters.extend([(1, 300.0), (250, 310.0)]);
        let svg = plot(&results).unwrap();
        assert!(["8.5", "310", ">250<"].iter().all(|part| svg.contains(part)), "{svg}");
    }
}
