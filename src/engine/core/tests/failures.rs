//! What goes wrong for one request goes wrong for no other.

use super::super::super::request::BackendFailure;
use super::super::BackendError;
use super::*;

fn decode_failure(code: i32) -> RequestError {
    RequestError::Backend(BackendFailure::Decode(BackendError::Fatal { code }))
}

#[rstest]
#[case::decode_error(ROOMY, POISON, decode_failure(-3))]
#[case::decode_error_over_split_kv(SPLIT, POISON, decode_failure(-3))]
#[case::bad_logits(ROOMY, NAN, RequestError::Backend(BackendFailure::BadLogits))]
fn a_request_that_fails_fails_alone(
    #[case] shape: ContextShape,
    #[case] fault: Token,
    #[case] error: RequestError,
) {
    let neighbours = || {
        vec![
            request(tokens("good food"), vec![probe("?"), generation(":", 6)]),
            request(tokens("slow"), vec![generation(":", 12)]),
            request(tokens("a long text about many things, in chunks"), vec![probe(" ok?")]),
        ]
    };
    let answers = |faulty: Option<Request>| {
        let mut scene = Scene::new(shape, 2, FAULTS);
        let failed = faulty.map(|request| scene.submit(request));
        let waiting: Vec<_> = neighbours().into_iter().map(|request| scene.submit(request)).collect();
        scene.run_until_idle();
        assert_whole(&scene);
        let answers: Vec<_> = waiting
            .into_iter()
            .map(|mut answer| answer.try_recv().unwrap().map(|answer| (answer.branches, answer.usage)))
            .collect();
        (answers, failed.map(|mut answer| answer.try_recv().unwrap()))
    };
    let (alone, _) = answers(None);
    let (beside, failed) = answers(Some(request(vec![Token(65), fault], vec![probe("")])));
    assert_eq!(failed, Some(Err(error)));
    assert_eq!(beside, alone);
}

#[test]
fn suspects_run_alone_and_in_heap_order() {
    // Room for the four that come first; the others wait, and must not join the last suspect, which is at fault,
    // in the steps before the fault shows.
    let mut scene = Scene::new(ContextShape { sequences: 6, ..ROOMY }, 2, FAULTS);
    let free = || Span::Free { max_tokens: 2, stop: stop_at(0..0) };
    let late = Branch::Generate { template: vec![free(), Span::Forced(vec![POISON]), free()] };
    let requests = ["first", "second", "third", "at fault", "a", "b"].map(|body| {
        let branch = if body == "at fault" { late.clone() } else { generation("?", 3) };
        request(tokens(body), vec![branch])
    });
    let mut answers = requests.map(|request| scene.submit(request));
    for _ in 0..3 {
        assert!(scene.core.step().is_some());
    }
    assert_eq!(scene.core.depth(), (6, 0), "the third step fails; no request but the suspects has begun");
    let mut order = Vec::new();
    while order.len() < 4 {
        scene.core.step();
        assert!(scene.core.depth().1 <= 1, "a suspect has company");
        for (n, answer) in answers.iter_mut().enumerate() {
            if !order.contains(&n) && answer.try_recv().is_ok() {
                order.push(n);
            }
        }
    }
    assert_eq!(order, [0, 1, 2, 3]);
    let calls = scene.batches().len();
    scene.run_until_idle();
    assert_eq!(scene.batches().len() - calls, 3, "the others run together");
}

#[test]
fn a_context_that_finds_no_cells_after_all_costs_recomputation_and_no_answer() {
    let requests =
        || ["one", "two", "three"].map(|body| request(tokens(body), vec![generation(":", 9), probe("?")]));
    let answers = |no_room_at: Option<usize>| {
        let mut scene = Scene::new(ROOMY, 2, FAULTS);
        let waiting = requests().map(|request| scene.submit(request));
        for step in 0..100 {
            scene.core.backend.no_room = u32::from(no_room_at == Some(step));
            scene.core.step();
        }
        assert_whole(&scene);
        assert_eq!(scene.core.counters().evictions, u64::from(no_room_at.is_some()));
        waiting.map(|mut answer| answer.try_recv().unwrap().unwrap().branches)
    };
    assert_eq!(answers(Some(4)), answers(None));
}

#[test]
fn a_context_that_never_finds_cells_fails_every_request() {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    scene.core.backend.no_room = u32::MAX;
    let waiting: Vec<_> = (0..5).map(|_| scene.submit(request(tokens("body"), vec![probe("?")]))).collect();
    scene.run_until_idle();
    assert_whole(&scene);
    for mut answer in waiting {
        assert_eq!(answer.try_recv().unwrap(), Err(RequestError::Backend(BackendError::NoRoom.into())));
    }
}

#[test]
fn a_deadline_ends_running_and_waiting_requests_and_no_others() {
    let mut scene = Scene::new(ContextShape { sequences: 3, ..ROOMY }, 2, FAULTS);
    let deadline = Some(Duration::from_millis(100));
    let slow = || request(tokens("slow"), vec![generation(":", 50)]);
    let mut running = scene.submit(Request { deadline, ..slow() });
    let mut waiting = scene.submit(Request { deadline, ..slow() });
    let mut patient = scene.submit(slow());
    scene.core.step();
    assert_eq!(scene.core.depth(), (2, 1));
    scene.clock.advance(Duration::from_secs(1));
    scene.core.step();
    assert_eq!(running.try_recv().unwrap(), Err(RequestError::DeadlineExceeded));
    assert_eq!(waiting.try_recv().unwrap(), Err(RequestError::DeadlineExceeded));
    scene.run_until_idle();
    assert!(patient.try_recv().unwrap().is_ok());
    assert_whole(&scene);
}

#[test]
fn a_dropped_reply_gives_everything_back_within_one_step() {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    let answers: Vec<_> = (0..4)
        .map(|_| scene.submit(request(tokens("body"), vec![generation(":", 50), probe("?")])))
        .collect();
    scene.core.step();
    scene.core.step();
    assert_eq!(scene.core.depth(), (0, 4));
    drop(answers);
    scene.core.step();
    assert_whole(&scene);
    assert_eq!(scene.core.backend().sim.cells_in_use(), 0);
    assert_eq!(scene.core.counters().failed, 4);
}

#[test]
fn abort_answers_waiting_running_and_suspected_requests() {
    let mut scene = Scene::new(ContextShape { sequences: 4, ..ROOMY }, 1, FAULTS);
    let bodies = [vec![POISON], tokens("suspect"), tokens("suspect too"), tokens("waits")];
    let mut answers: Vec<_> =
        bodies.into_iter().map(|body| scene.submit(request(body, vec![generation(":", 9)]))).collect();
    scene.core.step();
    scene.core.step();
    assert!(answers[0].try_recv().is_ok(), "the one at fault is gone");
    scene.core.step();
    assert_eq!(scene.core.depth(), (2, 1));
    scene.core.abort(&RequestError::Stopped);
    for answer in &mut answers[1..] {
        assert_eq!(answer.try_recv().unwrap(), Err(RequestError::Stopped));
    }
    assert_whole(&scene);
}

#[test]
fn a_prefix_that_cannot_be_prefilled_fails_those_who_name_it_only() {
    let mut scene = Scene::new(ContextShape { batch_tokens: 4, ..ROOMY }, 2, FAULTS);
    let head = scene.core.register_prefix([tokens("a head with "), vec![POISON]].concat()).unwrap();
    let named: Vec<_> = (0..2)
        .map(|_| scene.submit(Request { prefix: Some(head), ..request(tokens("body"), vec![probe("?")]) }))
        .collect();
    let mut other = scene.submit(request(tokens("body"), vec![probe("?")]));
    scene.run_until_idle();
    for mut answer in named {
        assert_eq!(answer.try_recv().unwrap(), Err(decode_failure(-3)));
    }
    assert!(other.try_recv().unwrap().is_ok());
    assert_eq!(scene.core.backend().sim.cells_in_use(), 0);
    assert_whole(&scene);
}
