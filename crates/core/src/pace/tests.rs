//! What a pace does, sentence by sentence.

use super::{Felt, Pace, PacePolicy, PaceWhy, Population, Sense};
use crate::share::Ppm;
use crate::time::{Span, Timestamp};
