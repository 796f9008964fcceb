// Writes a quantized model folder: the source's tensors with some linears replaced by codes,
// config.json with quantization_config, the source's small files, and qvlm.json with schemes and
// checksums. All of it grows in "<out>.part" and gets its name in commit(), so a failure or an
// interruption leaves nothing behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/declare_quantization.h"
#include "io/quantized_checkpoint.h"
#include "io/staged_folder.h"

namespace qvlm {

class QuantizedCheckpointWriter {
 public:
  struct Options {
    bool overwrite = false;                    // replace a model folder
    std::int64_t shard_bytes = 4'000'000'000;  // a weight file closes before it would exceed this
    // Tensors, by our names, that are not the source's any more, and what gives the bytes of one,
    // of the source's type and shape, when it is written. Not asked for linears that write()
    // brings.
    std::set<std::string> replaced = {};
    std::function<std::vector<std::byte>(const TensorView& source, const std::string& ours)>
        replacement = {};
  };

  // source: a float checkpoint; its names and dtypes are kept, and scales take the dtype of the
  // weight they replace. linears: what will be written, by our names, not empty. extra: more
  // members for qvlm.json (recipe, seed, version ...). Throws kInvalidArgument (an unknown linear,
  // an illegal scheme, an `out` that is not empty, that is no model to overwrite, or that holds the
  // source or lies in it), kUnsupported (a quantized source) or kIo; kCorrupt, like write(), when
  // a copied tensor holds NaN or infinity.
  QuantizedCheckpointWriter(const Checkpoint& source,
                            const std::filesystem::path& out,
                            LinearSchemes linears,
                            const Json& extra,
                            Options options);
  QuantizedCheckpointWriter(const Checkpoint& source,
                            const std::filesystem::path& out,
                            LinearSchemes linears,
                            const Json& extra)
      : QuantizedCheckpointWriter(source, out, std::move(linears), extra, Options()) {}
  QuantizedCheckpointWriter(const QuantizedCheckpointWriter&) = delete;
  QuantizedCheckpointWriter& operator=(const QuantizedCheckpointWriter&) = delete;

  // Adds one linear. Any order works; in the order of the model (vision tower, projector, decoder
  // layer by layer) memory holds no more than a layer of codes. Throws kInternal for a weight that
  // contradicts its announcement, kIo when the disk is full.
  void write(std::string_view linear, const QuantizedWeight& weight);
  // Adds a member to qvlm.json that is known only now; see `extra`.
  void describe(std::string_view key, const Json& value) { extra_.set(key, value); }
  // Finishes all files and gives the folder its name. Throws kInternal if a linear is missing, kIo.
  void commit();

 private:
  struct Entry {
    TensorInfo info;
    std::size_t shard = 0;
    std::optional<TensorView> source;  // nothing: codes that write() brings
  };

  void plan_tensors(std::int64_t shard_bytes);
  void copy_next(const TensorView& source);
  void advance();
  void write_next(std::span<const std::byte> bytes);
  void open_shard(std::size_t shard);
  std::string shard_name(std::size_t shard) const;
  void write_index() const;
  void write_small_files() const;
  Json make_own_document() const;

  Checkpoint source_;
  LinearSchemes linears_;
  Json extra_;
  std::set<std::string> replaced_;
  std::function<std::vector<std::byte>(const TensorView&, const std::string&)> replacement_;
  StagedFolder folder_;  // before shard_, which closes its file first
  std::vector<Entry> plan_;
  std::size_t next_ = 0;                                   // first entry not yet written
  std::map<std::string, std::vector<std::byte>> waiting_;  // codes that came before their turn
  std::map<std::string, std::string> hashes_;              // of the tensors written
  std::set<std::string, std::less<>> received_;            // by our names
  std::unique_ptr<SafetensorsWriter> shard_;
};

}  // namespace qvlm
