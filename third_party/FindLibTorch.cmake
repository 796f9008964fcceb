# Finds LibTorch and makes the imported targets LibTorch::torch_cpu, LibTorch::c10 and, for both with the headers,
# LibTorch::LibTorch.
#
# LibTorch's own CMake config is not used: in a CUDA wheel it stops without a CUDA toolkit, and in any wheel
# it adds link folders and warnings that a consumer of plain ATen does not need. The headers, libtorch_cpu and
# libc10 are enough, and they lie in the same places in CPU wheels, CUDA wheels and downloaded folders.
# docs/building.md tells what was measured.
#
# Looked for, in this order: QVLM_LIBTORCH (CMake variable, then environment), the project's .venv, the
# python3 on PATH. Nothing is cached, so a changed QVLM_LIBTORCH takes effect at the next configure.
set(_prefix "${CMAKE_SHARED_LIBRARY_PREFIX}")
set(_suffix "${CMAKE_SHARED_LIBRARY_SUFFIX}")

if(QVLM_LIBTORCH)
  set(_candidates "${QVLM_LIBTORCH}")
elseif(NOT "$ENV{QVLM_LIBTORCH}" STREQUAL "")
  set(_candidates "$ENV{QVLM_LIBTORCH}")
else()
  file(GLOB _candidates "${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python3*/site-packages/torch")
  if(NOT _candidates)
    execute_process(
      COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE _candidates OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()

set(LibTorch_ROOT_DIR "LibTorch_root-NOTFOUND")
foreach(_candidate IN LISTS _candidates)
  if(NOT LibTorch_ROOT_DIR AND EXISTS "${_candidate}/include/ATen/ATen.h"
     AND EXISTS "${_candidate}/lib/${_prefix}torch_cpu${_suffix}"
     AND EXISTS "${_candidate}/lib/${_prefix}c10${_suffix}")
    file(REAL_PATH "${_candidate}" LibTorch_ROOT_DIR)
  endif()
endforeach()

set(LibTorch_VERSION "")
foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)  # 2.9 and later, before
  if(LibTorch_ROOT_DIR AND NOT LibTorch_VERSION AND EXISTS "${LibTorch_ROOT_DIR}/include/${_header}")
    file(READ "${LibTorch_ROOT_DIR}/include/${_header}" _text)
    if(_text MATCHES "VERSION_MAJOR ([0-9]+).*VERSION_MINOR ([0-9]+).*VERSION_PATCH ([0-9]+)")
      set(LibTorch_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}")
    endif()
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_ROOT_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "Run ./scripts/install_deps.sh, or set QVLM_LIBTORCH to the folder that holds LibTorch's include/ and lib/")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  if(NOT LibTorch_VERSION MATCHES "^2\\.13\\.")
    message(NOTICE "qvlm is tested with LibTorch 2.13; trying the one found, ${LibTorch_VERSION}")
  endif()
  foreach(_name torch_cpu c10)
    add_library(LibTorch::${_name} SHARED IMPORTED)
    set_target_properties(LibTorch::${_name} PROPERTIES IMPORTED_LOCATION "${LibTorch_ROOT_DIR}/lib/${_prefix}${_name}${_suffix}")
  endforeach()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  # The headers of an imported target are system headers, so they are searched after ours and stay silent. They
  # hide Debian's fmt: a file that sees ATen must not include spdlog.
  target_include_directories(LibTorch::LibTorch INTERFACE "${LibTorch_ROOT_DIR}/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::torch_cpu LibTorch::c10)
  # A CUDA wheel's libtorch_cpu wants CUDA libraries that it finds itself when it is loaded.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--allow-shlib-undefined)
endif()
