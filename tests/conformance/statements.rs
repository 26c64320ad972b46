//! The lists of normative statements.

/// One of the standards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standard {
    pub name: &'static str,
    /// Where its tests are.
    pub folder: &'static str,
    text: &'static str,
}

pub const STANDARDS: [Standard; 3] = [
    Standard {
        name: "5.0",
        folder: "v5",
        text: include_str!("statements-5.0.txt"),
    },
    Standard {
        name: "3.1.1",
        folder: "v311",
        text: include_str!("statements-3.1.1.txt"),
    },
    Standard {
        name: "3.1",
        folder: "v31",
        text: include_str!("statements-3.1.txt"),
    },
];

/// One normative statement.
pub struct Statement {
    pub id: &'static str,
    /// It binds a server: alone, or a client as well.
    pub of_server: bool,
    pub what: &'static str,
    /// Why it has no test.
    pub reason: Option<&'static str>,
}

impl Standard {
    pub fn statements(self) -> Vec<Statement> {
        let mut statements: Vec<Statement> = Vec::new();
        for line in self.text.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with(' ') {
                let last = statements.last_mut().unwrap();
                assert!(last.reason.is_none(), "{} has two reasons", last.id);
                last.reason = Some(line.trim());
                continue;
            }
            let (head, what) = line.split_once(": ").unwrap();
            let (id, who) = head.split_once(' ').unwrap();
            assert!(["both", "server", "client"].contains(&who), "{line}");
            statements.push(Statement {
                id,
                of_server: who != "client",
                what,
                reason: None,
            });
        }
        statements
    }

    /// The standard that a test is about, by the folder that it is in.
    pub fn of(path: &str) -> Option<Self> {
        let (folder, _) = path.split_once("::")?;
        STANDARDS.into_iter().find(|s| s.folder == folder)
    }
}
