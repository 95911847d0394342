//! The statements that the trading programs run most often, from `hot_queries.sql`.

/// A statement of `hot_queries.sql` with the comment above it.
pub struct Shape {
    pub title: &'static str,
    pub sql: String,
}

pub fn shapes() -> Vec<Shape> {
    let text: &'static str = include_str!("hot_queries.sql");
    let mut shapes: Vec<Shape> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("-- ") {
            Some(title) if title.starts_with('H') => {
                shapes.push(Shape { title, sql: String::new() })
            }
            Some(_) => {}
            None => {
                if let Some(shape) = shapes.last_mut() {
                    shape.sql += line;
                    shape.sql.push('\n');
                }
            }
        }
    }
    shapes
}

impl Shape {
    pub fn table(&self) -> &'static str {
        self.title.split([' ', ':']).nth(1).unwrap()
    }
}
