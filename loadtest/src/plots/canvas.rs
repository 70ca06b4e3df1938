//! Drawing: a page, panels on it, lines in them. Lays everything out itself, so that nothing overlaps.

use std::path::Path;

use anyhow::anyhow;
use maitred::report::scale::Scale;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(95, 95, 95);
const GRID: RGBColor = RGBColor(228, 228, 228);
const MARK: RGBColor = RGBColor(140, 140, 140);
const FONT: &str = "sans-serif";

/// Okabe and Ito's colours, without the yellow that white paper swallows: told apart by the colour-blind.
const COLOURS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(34, 34, 34),
];

/// Colour of the n-th series.
pub(super) fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

/// A page that is being drawn.
pub(super) struct Page<'p> {
    area: DrawingArea<SVGBackend<'p>, Shift>,
    path: &'p Path,
    width: i32,
}

/// A rectangle of the page with axes.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// Left, top, right, bottom of the plotted area, in pixels.
    pub bounds: (i32, i32, i32, i32),
    pub x: Scale,
    pub y: Scale,
}

/// What is written around a panel.
#[derive(Clone, Copy, Default)]
pub(super) struct Words<'w> {
    pub title: &'w str,
    pub x: &'w str,
    pub y: &'w str,
    /// Whether the values of the vertical axis are named.
    pub named: bool,
}

impl<'p> Page<'p> {
    pub fn new(path: &'p Path, width: u32, height: u32) -> anyhow::Result<Self> {
        let area = SVGBackend::new(path, (width, height)).into_drawing_area();
        let page = Self { area, path, width: width as i32 };
        page.area.fill(&WHITE).map_err(|error| page.failed(&error))?;
        Ok(page)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> anyhow::Error {
        anyhow!("cannot draw {}: {error}", self.path.display())
    }

    /// Title and a line below it.
    pub fn title(&self, title: &str, note: &str) -> anyhow::Result<()> {
        self.text(title, (20, 14), 19, INK, HPos::Left, VPos::Top)?;
        self.text(note, (20, 40), 12, SOFT, HPos::Left, VPos::Top)
    }

    /// Names of the series, from left to right, in as many lines as they need. Returns where the next thing may begin.
    pub fn legend(&self, names: &[&str], top: i32) -> anyhow::Result<i32> {
        let (mut x, mut y) = (20, top);
        for (n, name) in names.iter().enumerate() {
            let wide = 34 + text_width(name, 13) + 22;
            if x > 20 && x + wide > self.width {
                (x, y) = (20, y + 20);
            }
            self.styled(&[(x, y + 8), (x + 26, y + 8)], n, 3)?;
            self.text(name, (x + 32, y + 1), 13, INK, HPos::Left, VPos::Top)?;
            x += wide;
        }
        Ok(y + 26)
    }

    /// Grid, axes and words of a panel.
    pub fn frame(&self, panel: &Panel, words: Words) -> anyhow::Result<()> {
        let (left, top, right, bottom) = panel.bounds;
        for tick in panel.y.ticks() {
            let y = panel.at(0.0, tick.value).1;
            self.stroke(&[(left, y), (right, y)], GRID, 1)?;
            if words.named {
                self.text(&tick.label, (left - 8, y), 12, SOFT, HPos::Right, VPos::Center)?;
            }
        }
        for tick in panel.x.ticks() {
            let x = panel.across(tick.value);
            self.stroke(&[(x, top), (x, bottom)], GRID, 1)?;
            self.stroke(&[(x, bottom), (x, bottom + 4)], SOFT, 1)?;
            self.text(&tick.label, (x, bottom + 8), 12, SOFT, HPos::Center, VPos::Top)?;
        }
        self.stroke(&[(left, bottom), (right, bottom)], SOFT, 1)?;
        self.text(words.title, (left, top - 8), 13, INK, HPos::Left, VPos::Bottom)?;
        let middle = i32::midpoint(left, right);
        self.text(words.x, (middle, bottom + 28), 13, INK, HPos::Center, VPos::Top)?;
        let font = (FONT, 13).into_font().transform(FontTransform::Rotate270).color(&INK);
        let font = font.pos(Pos::new(HPos::Center, VPos::Top));
        let beside = (left - 58, i32::midpoint(top, bottom));
        self.area.draw(&Text::new(words.y.to_owned(), beside, font)).map_err(|error| self.failed(&error))
    }

    /// The n-th series as a line.
    pub fn line(&self, panel: &Panel, points: &[(f64, f64)], n: usize) -> anyhow::Result<()> {
        let points: Vec<(i32, i32)> = points.iter().map(|&(x, y)| panel.at(x, y)).collect();
        self.styled(&points, n, 2)
    }

    /// Later series are broken, so that they do not hide what they lie on.
    fn styled(&self, points: &[(i32, i32)], n: usize, width: u32) -> anyhow::Result<()> {
        if n < 2 {
            return self.stroke(points, colour(n), width);
        }
        let (on, off) = if n.is_multiple_of(2) { (7.0, 5.0) } else { (3.0, 3.0) };
        for dash in dashes(points, on, off) {
            self.stroke(&dash, colour(n), width)?;
        }
        Ok(())
    }

    /// The n-th series as a line with a dot at each value; later ones have smaller dots.
    pub fn dotted_line(&self, panel: &Panel, points: &[(f64, f64)], n: usize) -> anyhow::Result<()> {
        self.line(panel, points, n)?;
        for &(x, y) in points {
            let dot = Circle::new(panel.at(x, y), if n < 2 { 5 } else { 3 }, colour(n).filled());
            self.area.draw(&dot).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// A broken line across the panel at a value of the vertical axis, named at its right end.
    pub fn level(&self, panel: &Panel, value: f64, name: &str) -> anyhow::Result<()> {
        let (left, _, right, _) = panel.bounds;
        let y = panel.at(0.0, value).1;
        for x in (left..right).step_by(9) {
            self.stroke(&[(x, y), ((x + 5).min(right), y)], MARK, 1)?;
        }
        self.text(name, (right - 4, y - 4), 11, SOFT, HPos::Right, VPos::Bottom)
    }

    /// A broken line from top to bottom at a value of the horizontal axis, named at its foot.
    pub fn mark(&self, panel: &Panel, value: f64, name: &str) -> anyhow::Result<()> {
        let (_, top, _, bottom) = panel.bounds;
        let x = panel.across(value);
        for y in (top..bottom).step_by(9) {
            self.stroke(&[(x, y), (x, (y + 5).min(bottom))], MARK, 1)?;
        }
        self.text(name, (x + 5, bottom - 6), 11, SOFT, HPos::Left, VPos::Bottom)
    }

    pub fn finish(self) -> anyhow::Result<()> {
        self.area.present().map_err(|error| self.failed(&error))
    }

    fn stroke(&self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> anyhow::Result<()> {
        let path = PathElement::new(points.to_vec(), colour.stroke_width(width));
        self.area.draw(&path).map_err(|error| self.failed(&error))
    }

    fn text(
        &self,
        text: &str,
        at: (i32, i32),
        size: i32,
        colour: RGBColor,
        across: HPos,
        down: VPos,
    ) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let style = (FONT, size).into_font().color(&colour).pos(Pos::new(across, down));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(|error| self.failed(&error))
    }
}

impl Panel {
    fn across(&self, x: f64) -> i32 {
        let (left, _, right, _) = self.bounds;
        left + (self.x.place(x) * f64::from(right - left)).round() as i32
    }

    fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let (_, top, _, bottom) = self.bounds;
        (self.across(x), bottom - (self.y.place(y) * f64::from(bottom - top)).round() as i32)
    }
}

/// The parts of a line, `on` pixels long and `off` apart.
fn dashes(points: &[(i32, i32)], on: f64, off: f64) -> Vec<Vec<(i32, i32)>> {
    let Some(&first) = points.first() else { return Vec::new() };
    let mut all = Vec::new();
    let (mut drawing, mut left, mut dash) = (true, on, vec![first]);
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (wide, high) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = wide.hypot(high);
        let mut walked = 0.0;
        while length - walked > left {
            walked += left;
            let share = walked / length;
            let at = (from.0 + (wide * share).round() as i32, from.1 + (high * share).round() as i32);
            if drawing {
                dash.push(at);
                all.push(std::mem::take(&mut dash));
            } else {
                dash = vec![at];
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
        left -= length - walked;
        if drawing && length > 0.0 {
            dash.push(to);
        }
    }
    if drawing && dash.len() > 1 {
        all.push(dash);
    }
    all
}

/// About as wide as a reader's font makes it: the file does not say which one that is.
fn text_width(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.58).ceil() as i32
}
