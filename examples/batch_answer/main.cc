// The same question about every image of a folder. One session serves all threads: its weights are
// in memory once, and what an answer needs besides belongs to the call.
#include <qvlm/qvlm.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Answer {
  std::string text;
  bool failed = false;  // then the text says why
};

std::vector<fs::path> list_images(const fs::path& folder) {
  std::vector<fs::path> images;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string kind = entry.path().extension().string();
    if (kind == ".png" || kind == ".jpg" || kind == ".jpeg" || kind == ".webp")
      images.push_back(entry.path());
  }
  std::sort(images.begin(), images.end());
  return images;
}

// Nothing may leave a thread's function, so a bad image becomes an answer that says so.
Answer answer(const qvlm::Session& session, const fs::path& image, const std::string& question) {
  try {
    return {session.generate({.text = question, .images = {qvlm::Image::load(image)}}).text};
  } catch (const std::exception& error) {
    return {error.what(), true};
  }
}

std::vector<Answer> answer_all(const qvlm::Session& session,
                               const std::vector<fs::path>& images,
                               const std::string& question,
                               unsigned threads) {
  std::vector<Answer> answers(images.size());
  std::atomic<std::size_t> next = 0;  // whoever is free takes the next image
  const auto work = [&] {
    // Each answer computes on one core, so that threads do not compete for them.
    qvlm::set_thread_count(1);
    for (std::size_t i = next++; i < images.size(); i = next++)
      answers[i] = answer(session, images[i], question);
  };
  std::vector<std::jthread> workers;
  for (unsigned i = 0; i < threads; ++i)
    workers.emplace_back(work);
  workers.clear();  // waits for all
  return answers;
}

int run(const fs::path& model, const fs::path& folder, const char* question, unsigned threads) {
  const std::vector<fs::path> images = list_images(folder);
  const qvlm::Session session = qvlm::Session::open(model);
  const std::vector<Answer> answers = answer_all(session, images, question, threads);
  int failed = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    std::cout << images[i].filename().string() << "\t" << (answers[i].failed ? "FAILED: " : "")
              << answers[i].text << "\n";
    failed += answers[i].failed ? 1 : 0;
  }
  std::cerr << images.size() << " images, " << failed << " of them failed\n";
  return failed == 0 ? 0 : 1;
}

// 0 for what is no number of threads.
unsigned parse_threads(std::string_view text) {
  unsigned threads = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), threads);
  return problem == std::errc() && end == text.data() + text.size() && threads <= 1024 ? threads
                                                                                       : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned threads = argc == 5 ? parse_threads(argv[4]) : 2;
  if (argc < 4 || argc > 5 || threads == 0) {
    std::cerr << "usage: batch_answer MODEL FOLDER QUESTION [THREADS]\n"
                 "  FOLDER   its PNG, JPEG and WebP files are asked about, one line each\n"
                 "  THREADS  answers in the making at once, default 2\n";
    return 2;
  }
  try {
    return run(argv[1], argv[2], argv[3], threads);
  } catch (const qvlm::Error& error) {
    const bool model_is_bad = error.kind() == qvlm::ErrorKind::kNotFound ||
                              error.kind() == qvlm::ErrorKind::kCorrupt ||
                              error.kind() == qvlm::ErrorKind::kUnsupported;
    std::cerr << "batch_answer: " << (model_is_bad ? "no usable model: " : "") << error.what()
              << "\n";
  } catch (const std::exception& error) {  // a folder that cannot be read, out of memory
    std::cerr << "batch_answer: " << error.what() << "\n";
  }
  return 1;
}
