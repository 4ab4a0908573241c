//! Spreadsheets of orders: written as a partner's office program writes them, read as the admin server reads them.

use std::io::Cursor;

use calamine::{Data, DataType, Range, Reader, Xlsx};
use rust_xlsxwriter::{Format, Workbook};

/// The columns of an order sheet. The first one is what a reader looks for.
pub const COLUMNS: [&str; 7] = ["Order", "Customer", "Street", "Postcode", "City", "Parcels", "Weight kg"];

/// One order, a row of the sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its number, unique in the world of the demo.
    pub number: String,
    /// Who gets it.
    pub customer: String,
    /// Where.
    pub street: String,
    /// Where, as text: a postcode may begin with a zero.
    pub postcode: String,
    /// Where.
    pub city: String,
    /// How many parcels.
    pub parcels: u32,
    /// Their weight in kilograms.
    pub weight: f64,
}

/// A sheet as the admin server holds it in memory while it works on it.
#[derive(Debug)]
pub struct Sheet {
    /// Every cell of it.
    pub cells: Range<Data>,
    /// The numbers of its orders, in the order of its rows.
    pub orders: Vec<String>,
}

/// Why a file is not a sheet of orders.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// It is not an .xlsx file, or a damaged one.
    #[error("not a readable .xlsx file: {0}")]
    Unreadable(#[from] calamine::XlsxError),
    /// There is no sheet in it.
    #[error("the file has no sheet")]
    NoSheet,
    /// Its first row does not name the order column.
    #[error("the first row has no column `Order`")]
    NoOrderColumn,
    /// An order has no number.
    #[error("row {0} has no order number")]
    NoNumber(usize),
    /// There is nothing in it.
    #[error("the sheet has no orders")]
    Empty,
}

/// `count` orders whose numbers are `PREFIX-0001` and so on. The rest of each follows from its number, so that a test can say what must arrive.
pub fn orders(prefix: &str, count: usize) -> Vec<Order> {
    const STREETS: [&str; 5] = ["Lindenstraße", "Nordwall", "Am Hafen", "Rue du Port", "Mill Lane"];
    const CITIES: [(&str, &str); 4] = [("01067", "Dresden"), ("50667", "Köln"), ("69002", "Lyon"), ("28195", "Bremen")];
    let order = |row: usize| {
        let (postcode, city) = CITIES[row % CITIES.len()];
        Order {
            number: format!("{prefix}-{row:04}"),
            customer: format!("Customer {}", 1000 + row * 7 % 9000),
            street: format!("{} {}", STREETS[row % STREETS.len()], 1 + row % 120),
            postcode: postcode.into(),
            city: city.into(),
            parcels: u32::try_from(1 + row % 4).unwrap_or(1),
            weight: 0.5 + f64::from(u16::try_from(row % 300).unwrap_or(0)) / 10.0,
        }
    };
    (1..=count).map(order).collect()
}

/// The bytes of an .xlsx file with one sheet of `orders`.
///
/// # Errors
/// When the sheet cannot hold them: more than 1,048,575 rows, or a text of more than 32,767 characters.
pub fn workbook(orders: &[Order]) -> Result<Vec<u8>, rust_xlsxwriter::XlsxError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("Orders")?;
    sheet.write_row_with_format(0, 0, COLUMNS, &Format::new().set_bold())?;
    for (row, order) in (1_u32..).zip(orders) {
        for (column, text) in (0_u16..).zip([&order.number, &order.customer, &order.street, &order.postcode, &order.city]) {
            sheet.write_string(row, column, text)?;
        }
        sheet.write_number(row, 5, order.parcels)?;
        sheet.write_number(row, 6, order.weight)?;
    }
    book.save_to_buffer()
}

/// Reads a sheet of orders: the first sheet, whose first row names the columns. Rows that are wholly empty are skipped.
pub fn read(file: &[u8]) -> Result<Sheet, SheetError> {
    let mut book = Xlsx::new(Cursor::new(file))?;
    let cells = book.worksheet_range_at(0).ok_or(SheetError::NoSheet)??;
    let header = cells.rows().next().ok_or(SheetError::Empty)?;
    let column = header.iter().position(|cell| cell.get_string() == Some(COLUMNS[0])).ok_or(SheetError::NoOrderColumn)?;
    let mut orders = Vec::with_capacity(cells.height());
    for (index, row) in cells.rows().enumerate().skip(1) {
        if row.iter().all(DataType::is_empty) {
            continue;
        }
        // A number that somebody typed as a number is an order number all the same.
        let number = row.get(column).and_then(DataType::as_string).filter(|text| !text.trim().is_empty());
        orders.push(number.ok_or(SheetError::NoNumber(index + 1))?);
    }
    if orders.is_empty() { Err(SheetError::Empty) } else { Ok(Sheet { cells, orders }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partner_writes_the_admin_server_reads() {
        let orders = orders("P1-000007", 300);
        let sheet = read(&workbook(&orders).unwrap()).unwrap();
        assert_eq!(sheet.orders, orders.iter().map(|order| order.number.clone()).collect::<Vec<_>>());
        assert_eq!(sheet.cells.get_size(), (301, COLUMNS.len()));
        assert_eq!(sheet.cells.get((4, 3)), Some(&Data::String("01067".into())), "a postcode keeps its leading zero");
    }

    #[test]
    fn a_file_that_is_no_order_sheet_is_refused_with_its_reason() {
        assert!(matches!(read(b"order;customer\n"), Err(SheetError::Unreadable(_))));
        assert!(matches!(read(&workbook(&[]).unwrap()), Err(SheetError::Empty)));
        let mut nameless = orders("P1", 3);
        nameless[1].number = " ".into();
        assert!(matches!(read(&workbook(&nameless).unwrap()), Err(SheetError::NoNumber(3))));
        let mut book = Workbook::new();
        book.add_worksheet().write_string(0, 0, "Something").unwrap();
        assert!(matches!(read(&book.save_to_buffer().unwrap()), Err(SheetError::NoOrderColumn)));
    }
}
