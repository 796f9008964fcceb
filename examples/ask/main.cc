// Questions about one image, answers streamed as they are decided: one question from the command
// line, or a dialogue from the keyboard. Ctrl-C ends an answer where it is.
#include <qvlm/qvlm.h>

#include <csignal>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

namespace {

// A signal handler may do little more than set such a flag.
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
  std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends the program at once
}

// Gets the pieces of an answer; false ends it here.
bool show(std::string_view piece) {
  std::cout << piece << std::flush;
  return interrupted == 0;
}

int ask(const qvlm::Session& session, const qvlm::Question& question) {
  const qvlm::Reply reply = session.generate(question, {}, show);
  std::cout << "\n";
  if (reply.stop_reason == qvlm::StopReason::kCallback) {
    std::cerr << "ask: stopped after " << reply.ids.size() << " tokens\n";
    return 130;  // what a shell expects of an interrupted program
  }
  return 0;
}

// The first question brings the image. What was said stays in the conversation, so "what colour is
// it?" has an answer, and only the new words are run.
int talk(const qvlm::Session& session, qvlm::Image image) {
  qvlm::Conversation conversation = session.start();
  qvlm::Question question{.images = {std::move(image)}};
  while (std::cerr << "> ", std::getline(std::cin, question.text)) {
    const qvlm::Reply reply = conversation.ask(question, {}, show);
    std::cout << "\n";
    std::cerr << "  (" << reply.prompt_tokens - reply.reused_tokens << " of " << reply.prompt_tokens
              << " tokens run, first word after " << reply.first_token_seconds << " s)\n";
    if (interrupted != 0) return 130;
    question.images.clear();
  }
  std::cerr << "\n";
  return 0;
}

// What the kind of an error means for the one at the keyboard; the text names the file or value.
const char* advice(qvlm::ErrorKind kind) {
  switch (kind) {
    case qvlm::ErrorKind::kInvalidArgument:
      return "change the question or the options";
    case qvlm::ErrorKind::kNotFound:
      return "check the names of model and image";
    case qvlm::ErrorKind::kCorrupt:
      return "the file is damaged: copy or download it again";
    case qvlm::ErrorKind::kUnsupported:
      return "try another model or image format";
    case qvlm::ErrorKind::kIo:
    case qvlm::ErrorKind::kResource:
      return "the system refused: look at permissions, disk and memory";
    case qvlm::ErrorKind::kInternal:
      return "a bug in qvlm: please report it";
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::cerr
        << "usage: ask MODEL IMAGE [QUESTION]\n"
           "  MODEL     folder of a checkpoint, float or quantized\n"
           "  IMAGE     PNG, JPEG or WebP file\n"
           "  QUESTION  in quotes, \"what shape is in the image?\"; without one, questions are\n"
           "            read from the keyboard, one a line\n";
    return 2;
  }
  std::signal(SIGINT, on_interrupt);
  try {
    // The image first: a wrong file name should not cost the time that a large model loads.
    qvlm::Image image = qvlm::Image::load(argv[2]);
    const qvlm::Session session = qvlm::Session::open(argv[1]);
    if (argc == 3) return talk(session, std::move(image));
    return ask(session, {.text = argv[3], .images = {std::move(image)}});
  } catch (const qvlm::Error& error) {
    std::cerr << "ask: " << error.what() << " (" << advice(error.kind()) << ")\n";
  } catch (const std::exception& error) {  // out of memory and the like
    std::cerr << "ask: " << error.what() << "\n";
  }
  return 1;
}
