//! CSV: one review a row, the rows of a restaurant together, so that one restaurant is held at a time.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::rc::Rc;
use std::str::FromStr;
