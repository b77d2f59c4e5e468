//! The contract of a table: the same over memory and over DynamoDB, here an embedded one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use dynoxide::Database;
use tokio::net::TcpListener;
use towpath_aws::{Clients, Settings};
use towpath_table::{
    Condition, DynamoTable, Error, Item, Key, MemoryTable, Range, Scan, Search, TRANSACTION_LIMIT,
    Table, Update, Write, integer, number, string, text,
};

/// A table of an embedded DynamoDB, with an index `due` on `dueShard` and `dueAt`.
async fn dynamo() -> DynamoTable {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dynoxide::server::serve_with_shutdown(
        listener,
        Database::memory().unwrap(),
        std::future::pending(),
    ));
    let lookup = |name: &str| match name {
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("local".to_owned()),
        name if name.starts_with("AWS_ENDPOINT_URL") => Some(format!("http://{address}")),
        _ => None,
    };
    let clients = Clients::connect(&Settings::from_lookup(lookup).unwrap(), None);
    let attribute = |name: &str, kind: ScalarAttributeType| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(kind).build().unwrap()
    };
    let key = |name: &str, kind: KeyType| {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(kind).build().unwrap()
    };
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly);
    let due = GlobalSecondaryIndex::builder()
        .index_name("due")
        .key_schema(key("dueShard", KeyType::Hash))
        .key_schema(key("dueAt", KeyType::Range))
        .projection(keys_only.build());
    let create = clients.dynamodb.create_table().table_name("runs");
    let create = create
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::S))
        .attribute_definitions(attribute("dueShard", ScalarAttributeType::S))
        .attribute_definitions(attribute("dueAt", ScalarAttributeType::N))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(due.build().unwrap());
    create.send().await.unwrap();
    DynamoTable::new(clients.dynamodb, "runs")
}

/// Runs a check over both tables.
macro_rules! over_both {
    ($($(#[$doc:meta])* $name:ident => $check:ident;)*) => {
        mod over_memory {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$check(&super::MemoryTable::default()).await; })*
        }
        mod over_dynamodb {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$check(&super::dynamo().await).await; })*
        }
    };
}

over_both! {
    an_item_is_put_read_and_deleted => puts;
    an_update_changes_what_it_names_and_nothing_else => updates;
    a_set_has_no_more_members_than_it_may => sets;
    each_condition_holds_when_it_should => conditions;
    a_transaction_is_whole_or_not_at_all => transactions;
    a_lost_race_is_told_from_a_refusal => refusals;
    a_query_is_a_part_of_a_partition_in_order => queries;
    a_search_is_a_part_of_an_index_in_order => searches;
    a_scan_finds_what_begins_so => scans;
}

fn item(attributes: &[(&str, u64)]) -> Item {
    let attributes = attributes.iter();
    attributes
        .map(|(name, value)| ((*name).to_owned(), number(value)))
        .collect()
}

fn key(sk: &str) -> Key {
    Key::new("run", sk)
}

async fn put(table: &dyn Table, sk: &str, attributes: &[(&str, u64)]) {
    let write = Write::put(key(sk), item(attributes));
    table.write(write).await.unwrap();
}

async fn puts(table: &dyn Table) {
    assert_eq!(table.get(&key("a")).await.unwrap(), None);
    put(table, "a", &[("x", 1), ("y", 2)]).await;
    put(table, "a", &[("x", 3)]).await;
    let found = table.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((Key::of(&found), found.len()), (key("a"), 3));
    assert_eq!(integer(&found, "x"), Some(3));
    put(table, "b", &[]).await;
    let many = table.get_many(&[key("b"), key("no"), key("a")]).await;
    let many: Vec<_> = many
        .unwrap()
        .iter()
        .map(|it| it.as_ref().map(Key::of))
        .collect();
    assert_eq!(many, [Some(key("b")), None, Some(key("a"))]);
    assert_eq!(table.get_many(&[]).await.unwrap(), []);
    table.write(Write::delete(key("a"))).await.unwrap();
    table.write(Write::delete(key("a"))).await.unwrap();
    assert_eq!(table.get(&key("a")).await.unwrap(), None);
}

async fn updates(table: &dyn Table) {
    let update = || {
        Update::default()
            .set("status", string("done"))
            .remove("token")
            .add("rev", 2)
    };
    // An item that is not there is made; a number that is not there counts as 0.
    let write = Write::update(key("a"), update());
    table.write(write.clone()).await.unwrap();
    put(table, "b", &[("token", 1), ("rev", 5), ("other", 7)]).await;
    let write = Write::update(key("b"), update());
    table.transact(vec![write]).await.unwrap();
    let (a, b) = (table.get(&key("a")).await, table.get(&key("b")).await);
    let (a, b) = (a.unwrap().unwrap(), b.unwrap().unwrap());
    assert_eq!(
        (text(&a, "status"), integer(&a, "rev")),
        ("done".into(), Some(2))
    );
    assert_eq!(
        (text(&b, "status"), integer(&b, "rev")),
        ("done".into(), Some(7))
    );
    assert_eq!(
        (integer(&b, "token"), integer(&b, "other")),
        (None, Some(7))
    );
}

async fn sets(table: &dyn Table) {
    let put = |text: &str| {
        let update = Update::default().insert("held", text).add("rev", 1);
        Write::update(key("a"), update).when(Condition::FewerThan("held", 2))
    };
    let take = |text: &str| {
        let held = Condition::Holds("held", text.to_owned());
        Write::update(key("a"), Update::default().discard("held", text)).when(held)
    };
    let held = async || {
        let item = table.get(&key("a")).await.unwrap().unwrap();
        let mut held = item
            .get("held")
            .map_or(Vec::new(), |it| it.as_ss().unwrap().clone());
        held.sort();
        held
    };
    table.write(put("one")).await.unwrap();
    table.transact(vec![put("two")]).await.unwrap();
    assert_eq!(held().await, ["one", "two"]);
    assert_eq!(table.write(put("three")).await, Err(Error::Conflict));
    assert_eq!(
        table.transact(vec![put("three")]).await,
        Err(Error::Conflict)
    );
    assert_eq!(table.write(take("three")).await, Err(Error::Conflict));
    table.write(take("one")).await.unwrap();
    table.transact(vec![take("two")]).await.unwrap();
    assert_eq!(held().await, [""; 0], "there is no empty set");
    assert_eq!(table.write(take("two")).await, Err(Error::Conflict));
    // What is put in together with what is set.
    let both = Update::default().set("x", number(1)).insert("held", "four");
    table.write(Write::update(key("a"), both)).await.unwrap();
    assert_eq!(held().await, ["four"]);
}

async fn conditions(table: &dyn Table) {
    put(table, "a", &[("x", 1), ("size", 4)]).await;
    let one = || number(1);
    for (condition, present, absent) in [
        (Condition::Absent, false, true),
        (Condition::Present, true, false),
        (Condition::Equals("x", one()), true, false),
        (Condition::Equals("x", number(2)), false, false),
        (Condition::Equals("none", one()), false, false),
        (Condition::AbsentOrEquals("x", one()), true, true),
        (Condition::AbsentOrEquals("x", number(2)), false, true),
        (Condition::Lacks("x"), false, true),
        (Condition::Lacks("none"), true, true),
        (Condition::OneOf("x", vec![number(3), one()]), true, false),
        (Condition::OneOf("x", vec![number(3)]), false, false),
        (Condition::AbsentOrAtMost("size", 4), true, true),
        (Condition::AbsentOrAtMost("size", 3), false, true),
        (Condition::AbsentOrAtMost("none", 3), false, true),
    ] {
        for (sk, holds) in [("a", present), ("b", absent)] {
            let write = Write::delete(key(sk)).when(condition.clone());
            let alone = table.write(write.clone()).await;
            put(table, "a", &[("x", 1), ("size", 4)]).await;
            let together = table.transact(vec![write]).await;
            put(table, "a", &[("x", 1), ("size", 4)]).await;
            let expected = if holds { Ok(()) } else { Err(Error::Conflict) };
            assert_eq!(alone, expected, "{condition:?} of {sk}");
            assert_eq!(together, expected, "{condition:?} of {sk} in a transaction");
        }
    }
    // All conditions of a write must hold.
    let write = Write::delete(key("a"))
        .when(Condition::Present)
        .when(Condition::Equals("x", number(9)));
    assert_eq!(table.write(write).await, Err(Error::Conflict));
}

async fn transactions(table: &dyn Table) {
    put(table, "a", &[("x", 1)]).await;
    let fails = vec![
        Write::put(key("b"), item(&[])),
        Write::delete(key("a")).when(Condition::Equals("x", number(2))),
    ];
    assert_eq!(table.transact(fails).await, Err(Error::Conflict));
    assert_eq!(table.get(&key("b")).await.unwrap(), None);
    let done = vec![
        Write::put(key("b"), item(&[])).when(Condition::Absent),
        Write::delete(key("a")).when(Condition::Equals("x", number(1))),
    ];
    table.transact(done).await.unwrap();
    assert!(table.get(&key("b")).await.unwrap().is_some());
    assert_eq!(table.get(&key("a")).await.unwrap(), None);
    let many = |count: usize| {
        let writes = (0..count).map(|n| Write::put(key(&n.to_string()), item(&[])));
        writes.collect::<Vec<_>>()
    };
    table.transact(many(TRANSACTION_LIMIT)).await.unwrap();
    let refused = table.transact(many(TRANSACTION_LIMIT + 1)).await;
    assert!(matches!(refused, Err(Error::Broken(_))), "{refused:?}");
}

async fn refusals(table: &dyn Table) {
    put(table, "claimed", &[("x", 1)]).await;
    let claim = || Write::put(key("claimed"), item(&[])).when(Condition::Absent);
    let claim = || claim().or_refuse("it is taken");
    let race = || Write::delete(key("a")).when(Condition::Present);
    let refused = Err(Error::Refused("it is taken"));
    assert_eq!(table.write(claim()).await, refused);
    assert_eq!(table.transact(vec![claim()]).await, refused);
    // A lost race makes it a conflict, whatever else failed.
    for writes in [vec![claim(), race()], vec![race(), claim()]] {
        assert_eq!(table.transact(writes).await, Err(Error::Conflict));
    }
}

async fn queries(table: &dyn Table) {
    for sk in ["STEP#0002", "STEP#0010", "STEP#0001", "NOW#HEAD"] {
        put(table, sk, &[]).await;
    }
    let other = Write::put(Key::new("other", "STEP#0001"), item(&[]));
    table.write(other).await.unwrap();
    let found = table.query("run", "STEP#").await.unwrap();
    let found: Vec<_> = found.iter().map(|item| text(item, "sk")).collect();
    assert_eq!(found, ["STEP#0001", "STEP#0002", "STEP#0010"]);
    assert_eq!(table.query("none", "STEP#").await.unwrap(), []);
}

async fn searches(table: &dyn Table) {
    for (sk, at) in [("a", 5), ("b", 30), ("c", 200), ("d", 7)] {
        let mut due = item(&[("dueAt", at), ("not copied", 1)]);
        due.insert("dueShard".to_owned(), string("due#03"));
        table.write(Write::put(key(sk), due)).await.unwrap();
    }
    put(table, "not due", &[]).await;
    let search = |range: Range, ascending: bool, limit: i32| Search {
        index: "due",
        partition: ("dueShard", "due#03".to_owned()),
        sort: "dueAt",
        range,
        ascending,
        limit,
    };
    for (search, expected, more) in [
        (search(Range::All, true, 10), "adbc", false),
        (search(Range::All, false, 10), "cbda", false),
        (search(Range::UpTo(number(30)), true, 10), "adb", false),
        (search(Range::Below(number(30)), true, 10), "ad", false),
        (search(Range::Above(number(7)), true, 10), "bc", false),
        (search(Range::All, true, 2), "ad", true),
    ] {
        let found = table.search(&search).await.unwrap();
        let keys: String = found.items.iter().map(|item| text(item, "sk")).collect();
        assert_eq!((keys.as_str(), found.more), (expected, more), "{search:?}");
    }
}

async fn scans(table: &(impl Table + Scan)) {
    for sk in ["LOCK", "REAP#1", "REAP#2", "STEP#0001"] {
        put(table, sk, &[]).await;
    }
    let found = table.scan(&["LOCK", "REAP#"]).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|item| text(item, "sk")).collect();
    found.sort();
    assert_eq!(found, ["LOCK", "REAP#1", "REAP#2"]);
}
