//! From `deploy/grafana/source` to what Grafana imports: pure.
//!
//! The source says what a panel shows and what to do about it; all that is the same for every panel is here.

use serde::Deserialize;
use serde_json::{Value, json};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// A dashboard as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Its stable id: links go by it.
    pub uid: String,
    pub title: String,
    pub description: String,
    /// What one can choose, beside the data source.
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    Worker,
    Lane,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    /// What it shows and what to do when it looks wrong.
    pub description: String,
    #[serde(default)]
    pub kind: Kind,
    /// A unit of Grafana's.
    #[serde(default = "plain")]
    pub unit: String,
    /// In 24ths of the page; a third where nothing is said.
    #[serde(default = "third")]
    pub width: u32,
    pub max: Option<f64>,
    /// A colour, and from which value on; the first one from the bottom.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// Legend and PromQL.
    pub queries: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Lines,
    Stack,
    Stat,
    Table,
    Heatmap,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Threshold {
    From((String, f64)),
    Bottom((String,)),
}

fn plain() -> String {
    "short".to_owned()
}

const fn third() -> u32 {
    COLUMNS / 3
}

impl Dashboard {
    /// All panels.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// As Grafana imports it.
    pub fn render(&self) -> Value {
        let variables = [data_source()].into_iter().chain(self.variables.iter().map(|v| v.render()));
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["maitred"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "timezone": "",
            "links": [{
                "type": "dashboards", "title": "maitred", "tags": ["maitred"], "asDropdown": false,
                "includeVars": true, "keepTime": true,
            }],
            "templating": { "list": variables.collect::<Vec<_>>() },
            "annotations": { "list": [alerts()] },
            "panels": self.laid_out(),
        })
    }

    /// Rows from top to bottom, panels from left to right, the next line where one is full.
    fn laid_out(&self) -> Vec<Value> {
        let (mut panels, mut top) = (Vec::new(), 0);
        for row in &self.rows {
            let place = json!({ "x": 0, "y": top, "w": COLUMNS, "h": 1 });
            panels.push(json!({
                "type": "row", "id": panels.len() + 1, "title": row.title, "collapsed": false, "panels": [],
                "gridPos": place,
            }));
            top += 1;
            let (mut left, mut high) = (0, 0);
            for panel in &row.panels {
                if left + panel.width > COLUMNS {
                    (top, left, high) = (top + high, 0, 0);
                }
                let place = json!({ "x": left, "y": top, "w": panel.width, "h": panel.height() });
                panels.push(panel.render(panels.len() + 1, &place));
                (left, high) = (left + panel.width, high.max(panel.height()));
            }
            top += high;
        }
        panels
    }
}

impl Variable {
    fn render(self) -> Value {
        let (name, label, query) = match self {
            Self::Worker => ("worker", "Worker", "label_values(maitred_worker_ready, instance)"),
            Self::Lane => ("lane", "Lane", "label_values(maitred_lane_pending, lane)"),
        };
        json!({
            "type": "query", "name": name, "label": label, "datasource": source(),
            "query": { "query": query, "refId": name }, "definition": query,
            // With the time: workers come and go.
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
            "current": { "text": "All", "value": "$__all" },
        })
    }
}

/// Which Prometheus.
fn data_source() -> Value {
    json!({ "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1 })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// Marks on every panel while an alert of ours fires.
fn alerts() -> Value {
    json!({
        "name": "Alerts", "datasource": source(), "enable": true, "iconColor": "red",
        "expr": "ALERTS{alertname=~\"Maitred.*\",alertstate=\"firing\"}",
        "titleFormat": "{{alertname}}", "textFormat": "{{instance}} {{lane}}", "step": "60s",
    })
}

impl Panel {
    const fn height(&self) -> u32 {
        match self.kind {
            Kind::Stat => 4,
            Kind::Table => 6,
            Kind::Lines | Kind::Stack | Kind::Heatmap => 8,
        }
    }

    fn render(&self, id: usize, place: &Value) -> Value {
        json!({
            "id": id,
            "type": match self.kind {
                Kind::Lines | Kind::Stack => "timeseries",
                Kind::Stat => "stat",
                Kind::Table => "table",
                Kind::Heatmap => "heatmap",
            },
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": place,
            "targets": self.targets(),
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "options": self.options(),
        })
    }

    fn targets(&self) -> Vec<Value> {
        let target = |(n, (legend, expression)): (usize, &(String, String))| {
            // A letter for each, as Grafana does.
            let letter = char::from(b'A' + u8::try_from(n).expect("a panel has few queries"));
            json!({
                "refId": letter.to_string(),
                "datasource": source(),
                "expr": expression.trim(),
                "legendFormat": legend,
                "instant": self.kind == Kind::Table,
                "range": self.kind != Kind::Table,
                "format": match self.kind {
                    Kind::Table => "table",
                    Kind::Heatmap => "heatmap",
                    _ => "time_series",
                },
            })
        };
        self.queries.iter().enumerate().map(target).collect()
    }

    fn defaults(&self) -> Value {
        let steps: Vec<Value> = self.thresholds.iter().map(Threshold::step).collect();
        let steps = if steps.is_empty() { vec![json!({ "color": "green", "value": null })] } else { steps };
        let mut defaults = json!({
            "unit": self.unit,
            "min": 0,
            "thresholds": { "mode": "absolute", "steps": steps },
        });
        if let Some(max) = self.max {
            defaults["max"] = max.into();
        }
        if matches!(self.kind, Kind::Lines | Kind::Stack) {
            let stacked = self.kind == Kind::Stack;
            defaults["custom"] = json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if stacked { 30 } else { 8 },
                "showPoints": "never",
                // A gap is shown: a worker that tells nothing is not one that is at nought.
                "spanNulls": false,
                "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
                "thresholdsStyle": { "mode": if self.thresholds.is_empty() { "off" } else { "dashed" } },
            });
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Lines | Kind::Stack => json!({
                "legend": { "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": if self.thresholds.is_empty() { "none" } else { "value" },
                "graphMode": "area", "textMode": "value", "justifyMode": "auto", "orientation": "auto",
            }),
            Kind::Table => json!({ "showHeader": true, "cellHeight": "sm" }),
            Kind::Heatmap => json!({
                "calculate": false, "yAxis": { "unit": self.unit }, "color": { "scheme": "Blues", "mode": "scheme" },
                "cellGap": 1, "tooltip": { "mode": "single" }, "legend": { "show": true },
            }),
        }
    }
}

impl Threshold {
    fn step(&self) -> Value {
        match self {
            Self::From((colour, value)) => json!({ "color": colour, "value": value }),
            Self::Bottom((colour,)) => json!({ "color": colour, "value": null }),
        }
    }
}
