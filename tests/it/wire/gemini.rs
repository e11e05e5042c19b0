//! Gemini generateContent.

use toolpool::Wire;

use super::golden;

#[test]
fn bodies_and_replies_are_as_in_the_golden_files() {
    golden::check_folder(Wire::Gemini);
}

#[test]
fn what_is_made_is_as_in_the_golden_file() {
    golden::check_what_is_made(Wire::Gemini);
}

#[test]
fn thoughts_count_once_whether_they_are_among_what_was_written_or_not() {
    let written = |total: &str| {
        let body = format!(
            r#"{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":10,
            "toolUsePromptTokenCount":1,"candidatesTokenCount":7,"thoughtsTokenCount":5{total}}}}}"#
        );
        let usage = Wire::Gemini.parse(&body).unwrap().usage();
        assert_eq!((usage.input_tokens, usage.reasoning_tokens), (11, 5));
        let stream = Wire::Gemini.stream();
        assert_eq!(streamed(stream, &body), usage);
        usage.output_tokens
    };
    assert_eq!(written(""), 12);
    assert_eq!(written(r#","totalTokenCount":23"#), 12);
    assert_eq!(written(r#","totalTokenCount":18"#), 7);
    assert_eq!(written(r#","totalTokenCount":99"#), 12);
}

fn streamed(mut stream: toolpool::wire::Assembler, body: &str) -> toolpool::Usage {
    let event = format!("data: {}\n\n", body.replace('\n', ""));
    stream.feed(event.as_bytes(), &mut |_| {}).unwrap();
    stream.finish(&mut |_| {}).unwrap().usage()
}
