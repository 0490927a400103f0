//! Spreads the waves of a cohort over its nodes.
//!
//! # Invariants
//!
//! * Every wave keeps its size and every node its mailboxes.
//! * Each node's part of a wave is its exact share of the cohort, rounded down or up.
//!
//! The exact shares form a table whose rows and columns have whole sums. Its fractions
//! therefore lie on cycles; moving along a cycle, in turn up and down, keeps all sums,
//! and goes on until one fraction of it is gone.

/// For each wave, how many mailboxes it has on each node.
///
/// The sum of `sizes` is the sum of `counts`.
pub(super) fn spread(sizes: &[u32], counts: &[u32]) -> Vec<Vec<u32>> {
    let total: u64 = counts.iter().copied().map(u64::from).sum();
    debug_assert_eq!(total, sizes.iter().copied().map(u64::from).sum::<u64>());
    if total == 0 {
        return Vec::new();
    }
    let mut table = Table::new(sizes, counts, total);
    while let Some(cycle) = table.cycle() {
        table.turn(&cycle);
    }
    table.whole
}

/// A cell: a wave's row, a node's column.
type Cell = (usize, usize);

/// No place on the path.
const NOWHERE: usize = usize::MAX;

struct Table {
    /// What a fraction is a part of.
    total: u64,
    /// The whole part of each cell.
    whole: Vec<Vec<u32>>,
    /// The fraction of each cell, in parts of `total`, below it.
    fraction: Vec<Vec<u64>>,
    /// Rows before this one have no fractions left.
    first_row: usize,
    columns: usize,
}

impl Table {
    fn new(sizes: &[u32], counts: &[u32], total: u64) -> Self {
        let cell = |size: &u32, count: &u32| u64::from(*size) * u64::from(*count);
        let whole = |size| {
            let whole = |count| u32::try_from(cell(size, count) / total);
            counts.iter().map(|count| whole(count).unwrap_or(u32::MAX)).collect()
        };
        let fraction =
            |size| counts.iter().map(|count| cell(size, count) % total).collect();
        Self {
            total,
            whole: sizes.iter().map(whole).collect(),
            fraction: sizes.iter().map(fraction).collect(),
            first_row: 0,
            columns: counts.len(),
        }
    }

    /// A cycle of cells with fractions; each shares in turn its column and its row with
    /// the next.
    fn cycle(&mut self) -> Option<Vec<Cell>> {
        let (mut row, mut column) = self.first()?;
        let mut path: Vec<Cell> = Vec::new();
        let mut rows = vec![NOWHERE; self.whole.len()];
        let mut columns = vec![NOWHERE; self.columns];
        loop {
            // From the row to the column.
            visit(&mut rows, row, path.len());
            path.push((row, column));
            if let Some(start) = visited(&columns, column) {
                return path.get(start..).map(<[Cell]>::to_vec);
            }
            // From the column to another row: sums are whole, so a fraction is never alone.
            visit(&mut columns, column, path.len());
            row = self.other_row(row, column)?;
            path.push((row, column));
            if let Some(start) = visited(&rows, row) {
                return path.get(start..).map(<[Cell]>::to_vec);
            }
            column = self.other_column(row, column)?;
        }
    }

    /// Moves along a cycle until a fraction of it is gone.
    fn turn(&mut self, cycle: &[Cell]) {
        debug_assert_eq!(cycle.len() % 2, 0);
        let room = |(step, cell): (usize, &Cell)| {
            let fraction = self.fraction(*cell);
            if step % 2 == 0 { self.total - fraction } else { fraction }
        };
        let by = cycle.iter().enumerate().map(room).min().unwrap_or(0);
        debug_assert!(by > 0);
        for (step, (row, column)) in cycle.iter().enumerate() {
            let fraction = self.fraction.get_mut(*row).and_then(|r| r.get_mut(*column));
            let whole = self.whole.get_mut(*row).and_then(|r| r.get_mut(*column));
            let (Some(fraction), Some(whole)) = (fraction, whole) else { continue };
            if step % 2 == 1 {
                *fraction -= by;
            } else if *fraction + by == self.total {
                *fraction = 0;
                *whole += 1;
            } else {
                *fraction += by;
            }
        }
    }

    fn first(&mut self) -> Option<Cell> {
        while let Some(row) = self.fraction.get(self.first_row) {
            if let Some(column) = row.iter().position(|fraction| *fraction > 0) {
                return Some((self.first_row, column));
            }
            self.first_row += 1;
        }
        None
    }

    fn other_row(&self, row: usize, column: usize) -> Option<usize> {
        let rows = self.first_row..self.whole.len();
        rows.filter(|other| *other != row)
            .find(|other| self.fraction((*other, column)) > 0)
    }

    fn other_column(&self, row: usize, column: usize) -> Option<usize> {
        let cells = self.fraction.get(row)?.iter().enumerate();
        let mut others =
            cells.filter(|(other, fraction)| *other != column && **fraction > 0);
        others.next().map(|(other, _)| other)
    }

    fn fraction(&self, (row, column): Cell) -> u64 {
        self.fraction.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    }
}

fn visit(places: &mut [usize], line: usize, place: usize) {
    if let Some(slot) = places.get_mut(line) {
        *slot = place;
    }
}

fn visited(places: &[usize], line: usize) -> Option<usize> {
    places.get(line).copied().filter(|place| *place != NOWHERE)
}

#[cfg(test)]
mod tests {
    use super::spread;
    use proptest::prelude::*;

    #[test]
    fn a_canary_meets_every_node_in_proportion() {
        let table = spread(&[100, 300, 600], &[500, 300, 200]);

        assert_eq!(table, [[50, 30, 20], [150, 90, 60], [300, 180, 120]]);
    }

    #[test]
    fn nobody_is_spread_over_nothing() {
        assert!(spread(&[], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn rows_and_columns_keep_their_sums_and_cells_are_rounded(
            counts in prop::collection::vec(1_u32..500, 1..12),
            cuts in prop::collection::vec(any::<u32>(), 0..12),
        ) {
            let total: u32 = counts.iter().sum();
            let mut ends: Vec<u32> =
                cuts.iter().map(|cut| cut % total).collect();
            ends.extend([0, total]);
            ends.sort_unstable();
            ends.dedup();
            let sizes: Vec<u32> =
                ends.windows(2).map(|pair| pair[1] - pair[0]).collect();

            let table = spread(&sizes, &counts);

            for (row, size) in table.iter().zip(&sizes) {
                prop_assert_eq!(row.iter().sum::<u32>(), *size);
                for (cell, count) in row.iter().zip(&counts) {
                    let exact = u64::from(*size) * u64::from(*count);
                    let scaled = u64::from(*cell) * u64::from(total);
                    prop_assert!(scaled.abs_diff(exact) < u64::from(total));
                }
            }
            for (column, count) in counts.iter().enumerate() {
                let sum: u32 = table.iter().map(|row| row[column]).sum();
                prop_assert_eq!(sum, *count);
            }
        }
    }
}
