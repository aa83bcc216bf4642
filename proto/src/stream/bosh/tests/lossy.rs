//! A client whose answers are lost, at random.

use super::*;

proptest::proptest! {
    /// Whatever a client sends and however its requests are lost, it hears what was written once and in order.
    #[test]
    fn bo_3_nothing_is_lost_and_nothing_comes_twice(steps in proptest::collection::vec(0_u8..5, 0..150)) {
        let mut session = begun();
        let (mut rid, mut written, mut heard, mut now) = (11, 0, Vec::new(), START);
        let mut hear = |answer: &[u8]| {
            let answer = Element::parse(answer).unwrap();
            heard.extend(answer.elements().filter_map(|it| it.attr("id")?.parse::<u32>().ok()));
        };
        for step in steps {
            now += POLLING * 2;
            match step {
                0 => {
                    session.write(format!("<message id='{written}'/>").as_bytes(), now);
                    session.flush(now);
                    written += 1;
                }
                1 => session.detach(rid, now),
                // An answer is lost: the client does not look, and asks again later.
                2 => drop(session.ready()),
                3 => session.tick(now),
                _ => {
                    inward(&mut session);
                    let ready = session.ready().into_iter().find(|(of, _)| *of == rid);
                    let answer = match ready {
                        Some((_, answer)) => Some(answer),
                        None => match session.receive(request(rid, "", ""), now) {
                            Received::Answered(answer) => Some(answer),
                            Received::Waits => session.ready().pop().map(|(_, answer)| answer),
                        },
                    };
                    if let Some(answer) = answer {
                        hear(&answer);
                        rid += 1;
                        session.receive(request(rid, "", ""), now);
                    }
                }
            }
            if session.is_over() {
                break;
            }
        }
        let expect: Vec<_> = (0..heard.len() as u32).collect();
        proptest::prop_assert_eq!(&heard, &expect);
        proptest::prop_assert!(heard.len() as u32 <= written);
    }
}
