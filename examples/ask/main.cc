// One question about one image, the answer streamed as it is decided. Ctrl-C ends the answer, not
// the program: what was said so far stays.
#include <qvlm/qvlm.h>

#include <csignal>
#include <exception>
#include <iostream>
#include <string_view>

namespace {

// A signal handler may do little more than set such a flag.
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
  std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends the program at once
}

int ask(const char* model, const char* image, const char* question) {
  // The image first: a wrong file name should not cost the time that a large model loads.
  const qvlm::Question asked{.text = question, .images = {qvlm::Image::load(image)}};
  const qvlm::Session session = qvlm::Session::open(model);
  const qvlm::Reply reply = session.generate(asked, {}, [](std::string_view piece) {
    std::cout << piece << std::flush;
    return interrupted == 0;  // false ends the answer here
  });
  std::cout << "\n";
  if (reply.stop_reason == qvlm::StopReason::kCallback) {
    std::cerr << "ask: stopped after " << reply.ids.size() << " tokens\n";
    return 130;  // what a shell expects of an interrupted program
  }
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
  if (argc != 4) {
    std::cerr << "usage: ask MODEL IMAGE QUESTION\n"
                 "  MODEL     folder of a checkpoint, float or quantized\n"
                 "  IMAGE     PNG, JPEG or WebP file\n"
                 "  QUESTION  in quotes, \"what shape is in the image?\"\n";
    return 2;
  }
  std::signal(SIGINT, on_interrupt);
  try {
    return ask(argv[1], argv[2], argv[3]);
  } catch (const qvlm::Error& error) {
    std::cerr << "ask: " << error.what() << " (" << advice(error.kind()) << ")\n";
  } catch (const std::exception& error) {  // out of memory and the like
    std::cerr << "ask: " << error.what() << "\n";
  }
  return 1;
}
