//! What nodes share is divided between those that open.

use tidegate_core::pace::{PaceReport, PaceWhy};
use tidegate_core::rollout::Vitals;

use crate::fleet::{Coordinator, POLICY, Worker, data_dir, until};
use crate::prometheus::apply_under;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_open_divide_what_all_may_open_together() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let limit = "[limits]\nopen_per_second_total = 9";
    apply_under(&coordinator, POLICY.replace("[limits]", limit)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();

    one.report().await.unwrap();
    assert_eq!(one.orders.open_millis_per_second, Some(9_000));

    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    until("both have their halves", async || {
        // Neither obeys, so both have something to open once the first wave may.
        one.report().await.unwrap();
        two.report().await.unwrap();
        let parts = [&one, &two].map(|worker| worker.orders.open_millis_per_second);
        (parts == [Some(4_500); 2]).then_some(())
    })
    .await;

    // Its users wait too long: it opens nothing, and the other may have its part.
    let stopped = PaceReport {
        millis_per_second: 0,
        why: PaceWhy::Stopped,
        login_p95_millis: 11_000,
        basis: None,
    };
    let mut sync = two.sync();
    sync.vitals = Vitals { pace: Some(stopped), ..sync.vitals };
    two.tell(sync).await.unwrap();
    one.report().await.unwrap();

    assert_eq!(one.orders.open_millis_per_second, Some(9_000));
    coordinator.stop().await;
}
