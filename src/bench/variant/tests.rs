use proptest::prelude::*;
use rstest::rstest;

use super::super::drive::sample::{self, BOUND, LEAD_IN, QUESTION, tokens};
use super::*;
use crate::engine::SpanText;

const SETUP: Setup = Setup { sequences: 20, heads: 4, cells: 4096, unified: true, flash_attention: true };

fn without(ideas: &'static [Idea]) -> Variant {
    Variant { name: "test", without: ideas }
}

fn text(tokens: Vec<Token>) -> BranchAnswer {
    BranchAnswer::Text(vec![SpanText { tokens, complete: true }])
}

/// A label's and a claim's request, as `variant` asks them.
fn asked(variant: &Variant) -> (Request, Request) {
    let workload = sample::workload();
    let pinned = [PrefixId(7), PrefixId(8)];
    let ask = |request| variant.request(request, &workload.heads, &pinned, &workload.ends);
    let place = &workload.places[0];
    (ask(&place.labels[0]), ask(&place.claims[0]))
}

#[test]
fn ours_asks_what_the_reader_asks_under_the_cores_own_names_for_the_heads() {
    let (label, claim) = asked(&OURS);
    assert_eq!((label.prefix, claim.prefix), (Some(PrefixId(7)), Some(PrefixId(8))));
    assert!(matches!(&label.branches[..], [Branch::Probe { .. }]));
    assert_eq!(claim.branches[0].fed_tokens(), LEAD_IN.len());
}

#[test]
fn without_sharing_the_head_stands_in_every_body() {
    let (label, claim) = asked(&without(&[Idea::Sharing]));
    assert_eq!((label.prefix, claim.prefix), (None, None));
    assert_eq!(label.body, tokens(&format!("{}the soup was cold", sample::LABEL_HEAD)));
    assert_eq!(claim.body, tokens(&format!("{}- cold\n- late", sample::CLAIM_HEAD)));
}

#[test]
fn without_probes_the_label_is_sampled_to_the_end_of_its_line() {
    let (label, _) = asked(&without(&[Idea::Probes]));
    let [Branch::Generate { template }] = &label.branches[..] else { panic!("{label:?}") };
    let [Span::Forced(question), Span::Free { max_tokens, stop }] = &template[..] else {
        panic!("{template:?}")
    };
    assert_eq!((question, *max_tokens), (&tokens(QUESTION), 3));
    assert!(Arc::ptr_eq(stop, &sample::workload().ends.line) || stop.contains(Token(i32::from(b'n'))));
}

#[test]
fn without_forcing_the_lead_in_is_sampled_and_the_bound_grows_by_it() {
    let (label, claim) = asked(&without(&[Idea::Forcing]));
    assert!(matches!(&label.branches[..], [Branch::Probe { .. }]), "a label has nothing to force");
    let [Branch::Generate { template }] = &claim.branches[..] else { panic!("{claim:?}") };
    let [Span::Free { max_tokens, .. }] = &template[..] else { panic!("{template:?}") };
    assert_eq!(*max_tokens, BOUND + LEAD_IN.len() as u32);
}

#[test]
fn a_label_is_the_likelier_one_or_the_one_that_was_said() {
    let asked = sample::label(0, "text");
    assert_eq!(label_of(&asked, &BranchAnswer::Probe(vec![-2.0, -0.1])), Some(1));
    assert_eq!(label_of(&asked, &text(tokens("a\n"))), Some(0));
    assert_eq!(label_of(&asked, &text(tokens("xa"))), None);
    assert_eq!(label_of(&asked, &text(vec![])), None);
}

#[test]
fn a_text_that_was_to_bring_its_lead_in_and_did_not_is_none() {
    let forced = sample::claim(0, "text", &sample::workload().ends);
    let variant = without(&[Idea::Forcing]);
    let answer = text(tokens(&format!("\n- and more{LEAD_IN} warm")));
    assert_eq!(text_of(&forced, &answer, &variant), Some((tokens(" warm").as_slice(), true)));
    assert_eq!(text_of(&forced, &text(tokens("warm")), &variant), None);
    assert_eq!(text_of(&forced, &text(tokens("warm")), &OURS), Some((tokens("warm").as_slice(), true)));
}

#[rstest]
#[case(&[], Setup { ..SETUP })]
#[case(&[Idea::Batching], Setup { sequences: 5, ..SETUP })]
#[case(&[Idea::Sharing], Setup { sequences: 16, heads: 0, ..SETUP })]
#[case(&[Idea::Batching, Idea::Sharing], Setup { sequences: 1, heads: 0, ..SETUP })]
#[case(&[Idea::UnifiedCache], Setup { unified: false, cells: 20 * 512, ..SETUP })]
#[case(&[Idea::FlashAttention], Setup { flash_attention: false, ..SETUP })]
fn a_context_has_the_sequences_and_cells_that_its_variant_needs(
    #[case] ideas: &'static [Idea],
    #[case] expected: Setup,
) {
    assert_eq!(without(ideas).setup(SETUP, 300), expected);
}

#[test]
fn the_others_switch_off_one_idea_each_and_the_baselines_those_that_make_a_request() {
    let [single @ .., PROMPTED, BASELINE] = &OTHERS[..] else { panic!("the baselines come last") };
    assert!(single.iter().all(|variant| variant.without.len() == 1));
    assert!(PROMPTED.has(Idea::Forcing));
    assert!([Idea::Batching, Idea::Sharing, Idea::Probes, Idea::Forcing].iter().all(|i| !BASELINE.has(*i)));
}

#[test]
fn an_answer_that_is_missing_on_either_side_agrees_with_nothing() {
    assert!((agreement(&[Some(1), None, Some(0)], &[Some(1), None, None]) - 1.0 / 3.0).abs() < 1e-9);
    assert!((agreement(&[Some(1), Some(0)], &[Some(1)]) - 0.5).abs() < 1e-9);
    assert!((agreement::<u8>(&[], &[]) - 1.0).abs() < 1e-9);
}

proptest! {
    #[test]
    fn agreement_is_a_share_symmetric_and_one_with_itself_when_all_is_there(
        a in proptest::collection::vec(proptest::option::of(0usize..3), 0..20),
        b in proptest::collection::vec(proptest::option::of(0usize..3), 0..20),
    ) {
        let share = agreement(&a, &b);
        prop_assert!((0.0..=1.0).contains(&share));
        prop_assert!((share - agreement(&b, &a)).abs() < 1e-12);
        let whole: Vec<_> = a.into_iter().map(|label| label.or(Some(9))).collect();
        prop_assert!((agreement(&whole, &whole) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_split_cache_gives_every_sequence_its_reach(reach in 1u32..3000, permits in 1u16..40, heads in 0u16..5) {
        let ours = Setup { sequences: permits + heads, heads, ..SETUP };
        let setup = without(&[Idea::UnifiedCache]).setup(ours, reach);
        prop_assert!(setup.cells / u32::from(setup.sequences) >= reach);
    }

    #[test]
    fn no_variant_loses_a_token_of_the_prompt(body in "[a-z ]{1,40}") {
        let workload = sample::workload();
        let label = sample::label(0, &body);
        for variant in OTHERS {
            let made = variant.request(&label, &workload.heads, &[PrefixId(0), PrefixId(1)], &workload.ends);
            let head = if made.prefix.is_some() { sample::LABEL_HEAD } else { "" };
            let fed = made.branches[0].fed_tokens();
            let whole = sample::LABEL_HEAD.len() + body.len() + QUESTION.len();
            prop_assert_eq!(head.len() + made.body.len() + fed, whole, "{}", variant.name);
        }
    }
}
