//! What a guest hands over: flat buffers become columns that Arrow's own full validation takes, or an error.

use arrow_array::Array as _;

use super::bytes::Bytes;
use crate::{layout, lift, lower};

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let columns = 1 + bytes.byte() % 3;
    let fields = bytes.fields(columns);
    let rows = u32::from(bytes.byte() % 20);
    let (nodes, buffers) = bytes.flat(&fields, rows);
    for column in lift::lift(&fields, rows as usize, &nodes, &buffers).into_iter().flatten() {
        assert_eq!(column.len(), rows as usize);
        column.to_data().validate_full().expect("what was lifted is valid");
        // And it goes back the way that it came.
        layout::check_crosses(column.data_type()).expect("its type crosses");
        lower::lower(&[column]).expect("it crosses");
    }
}
