// qvlm generate: one question, the answer streamed to stdout.
#include <qvlm/session.h>

#include <chrono>
#include <iostream>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output_place.h"
#include "eval/report_json.h"
#include "io/kv_format.h"
#include "runtime/engine.h"
#include "tensor/file_tensor.h"

namespace qvlm::cli {
namespace {

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEndToken:
      return "end_token";
    case StopReason::kStopText:
      return "stop_text";
    case StopReason::kLength:
      return "length";
    case StopReason::kCallback:
      return "callback";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "";
}

// Logits of all prompt positions. An engine of its own, gone before the session loads: a check for
// those who compare implementations, not something to pay for in every run.
void save_logits(const GenerateCommand& command, const std::vector<Image>& images) {
  const Engine engine = Engine::load(command.model, command.execution);
  const std::vector<std::int32_t> ids =
      engine.encode_prompt({Turn{Role::kUser, command.prompt, static_cast<int>(images.size())}});
  std::vector<at::Tensor> features;
  for (const Image& image : images)
    features.push_back(engine.encode_image(image));
  Sequence sequence(engine, static_cast<std::int64_t>(ids.size()),
                    choose_kv_format(Checkpoint::open(command.model), command.kv_cache));
  const at::Tensor logits =
      sequence.prefill(ids, features, LogitsOf::kAll).contiguous();  // [tokens, vocab]
  SafetensorsWriter writer(command.save_logits, {{"logits", DType::kF32, logits.sizes().vec()}},
                           {});
  writer.write("logits", bytes_of(logits));
  writer.commit();
}

Json to_json(const GenerateCommand& command,
             KvFormat kv_cache,
             const Reply& reply,
             double load_seconds) {
  Json json = Json::object(), ids = Json::array(), seconds = Json::object();
  for (const std::int32_t id : reply.ids)
    ids.append(id);
  seconds.set("load", load_seconds);
  seconds.set("first_token", reply.first_token_seconds);
  seconds.set("prefill", reply.prefill_seconds);
  seconds.set("decode", reply.decode_seconds);
  json.set("model", command.model);
  json.set("execution", execution_name(command.execution));
  json.set("kv_cache", kv_format_name(kv_cache));
  json.set("text", reply.text);
  json.set("ids", ids);
  json.set("prompt_tokens", reply.prompt_tokens);
  json.set("new_tokens", static_cast<std::int64_t>(reply.ids.size()));
  json.set("seconds", seconds);
  json.set("stop_reason", stop_reason_name(reply.stop_reason));
  return json;
}

}  // namespace

void run(const GenerateCommand& command, const CommonOptions& common) {
  check_output(command.save_logits);
  Question question;
  question.text = command.prompt;
  for (const std::string& file : command.images)
    question.images.push_back(Image::load(file));
  if (!command.save_logits.empty()) save_logits(command, question.images);

  const auto start = std::chrono::steady_clock::now();
  const Session session = Session::open(command.model, {.execution = command.execution,
                                                        .kv_cache = command.kv_cache,
                                                        .packed_cache = command.packed_cache});
  const std::chrono::duration<double> load_time = std::chrono::steady_clock::now() - start;
  const Reply reply =
      session.generate(question, command.options, [&common](std::string_view piece) {
        if (!common.json) std::cout << piece << std::flush;
        return !is_interrupted();
      });
  if (common.json) {
    std::cout << to_json(command, session.info().kv_cache, reply, load_time.count()).dump(2);
  }
  std::cout << "\n";
  throw_if_interrupted();
}

}  // namespace qvlm::cli
