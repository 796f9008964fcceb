# Finds LibTorch and makes the imported target LibTorch::LibTorch.
#
# LibTorch's own CMake config is not used: in a CUDA wheel it stops without a CUDA toolkit, and in any wheel
# it adds flags and libraries that a consumer of plain ATen does not need. Headers, libtorch, libtorch_cpu and
# libc10 are enough, and they lie in the same places in CPU wheels, CUDA wheels and downloaded folders.
#
# Looked for, in this order: QVLM_LIBTORCH (CMake variable, then environment), the project's .venv, the
# python3 on PATH. 2.13 is the tested version; others are used with a notice.
set(_candidates "")
if(QVLM_LIBTORCH OR DEFINED ENV{QVLM_LIBTORCH})
  set(_candidates "${QVLM_LIBTORCH}")
  if(NOT _candidates)
    set(_candidates "$ENV{QVLM_LIBTORCH}")
  endif()
else()
  file(GLOB _candidates "${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python3*/site-packages/torch")
  if(NOT _candidates)
    execute_process(
      COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE _candidates OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h PATHS ${_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
foreach(_name torch torch_cpu c10)
  find_library(LibTorch_${_name}_LIBRARY ${_name} PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
endforeach()

set(LibTorch_VERSION "")
if(LibTorch_INCLUDE_DIR AND EXISTS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h")
  file(STRINGS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h" _lines REGEX "define TORCH_VERSION ")
elseif(LibTorch_INCLUDE_DIR)
  file(STRINGS "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h" _lines REGEX "define TORCH_VERSION ")
endif()
if(_lines MATCHES "\"([0-9.]+)")
  set(LibTorch_VERSION "${CMAKE_MATCH_1}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_LIBRARY LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "Run ./scripts/install_deps.sh, or set QVLM_LIBTORCH to the folder that holds LibTorch's include/ and lib/")
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_torch_LIBRARY LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY)

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  if(NOT LibTorch_VERSION MATCHES "^2\\.13")
    message(NOTICE "qvlm is tested with LibTorch 2.13; found ${LibTorch_VERSION}, trying it")
  endif()
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_torch_cpu_LIBRARY}" DIRECTORY)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  # SYSTEM silences warnings. -idirafter would keep the wheel's fmt behind Debian's, but no file of ours that
  # sees ATen includes fmt or spdlog (base/log.cc is compiled without LibTorch), so no order is needed.
  set_target_properties(LibTorch::LibTorch PROPERTIES
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR}"
    # libtorch only drags in the others by --no-as-needed; naming the two that hold the symbols is enough.
    INTERFACE_LINK_LIBRARIES "${LibTorch_torch_cpu_LIBRARY};${LibTorch_c10_LIBRARY}"
    INTERFACE_LINK_OPTIONS "-Wl,-rpath,${LibTorch_LIBRARY_DIR}")
endif()
