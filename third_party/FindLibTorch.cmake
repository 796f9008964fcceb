# Finds LibTorch and makes the imported targets LibTorch::torch_cpu, LibTorch::c10 and, for both with the headers,
# LibTorch::LibTorch.
#
# LibTorch's own CMake config is not used: in a CUDA wheel it stops without a CUDA toolkit, and in any wheel
# it adds link folders and warnings that a consumer of plain ATen does not need. The headers, libtorch_cpu and
# libc10 are enough, and they lie in the same places in CPU wheels, CUDA wheels and downloaded folders.
# docs/building.md tells what was measured.
#
# Looked for, in this order: QVLM_LIBTORCH (CMake variable, then environment), the folders that QVLM_LIBTORCH_HINTS
# names (our build: the project's .venv; an installed qvlm: the LibTorch that it was compiled for), the python3 on PATH.
# Nothing is cached, so a changed QVLM_LIBTORCH takes effect at the next configure.

# Sets `root` to the first of the folders given that holds LibTorch, without symbolic links; else leaves it.
function(_libtorch_first root)
  foreach(folder IN LISTS ARGN)
    if(EXISTS "${folder}/include/ATen/ATen.h"
       AND EXISTS "${folder}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}torch_cpu${CMAKE_SHARED_LIBRARY_SUFFIX}"
       AND EXISTS "${folder}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}c10${CMAKE_SHARED_LIBRARY_SUFFIX}")
      file(REAL_PATH "${folder}" found)
      set(${root} "${found}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

set(LibTorch_ROOT_DIR "LibTorch_root-NOTFOUND")
if(QVLM_LIBTORCH)
  _libtorch_first(LibTorch_ROOT_DIR "${QVLM_LIBTORCH}")
elseif(NOT "$ENV{QVLM_LIBTORCH}" STREQUAL "")
  _libtorch_first(LibTorch_ROOT_DIR "$ENV{QVLM_LIBTORCH}")
else()
  _libtorch_first(LibTorch_ROOT_DIR ${QVLM_LIBTORCH_HINTS})
  if(NOT LibTorch_ROOT_DIR)
    execute_process(
      COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE _libtorch_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    _libtorch_first(LibTorch_ROOT_DIR "${_libtorch_python}")
  endif()
endif()

set(LibTorch_VERSION "")
foreach(_libtorch_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)  # 2.9 and later, before
  if(LibTorch_ROOT_DIR AND NOT LibTorch_VERSION AND EXISTS "${LibTorch_ROOT_DIR}/include/${_libtorch_header}")
    file(READ "${LibTorch_ROOT_DIR}/include/${_libtorch_header}" _libtorch_text)
    if(_libtorch_text MATCHES "VERSION_MAJOR ([0-9]+).*VERSION_MINOR ([0-9]+).*VERSION_PATCH ([0-9]+)")
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
  if(NOT LibTorch_VERSION MATCHES "^2\\.13\\." AND NOT LibTorch_FIND_QUIETLY)
    message(NOTICE "qvlm is tested with LibTorch 2.13; trying the one found, ${LibTorch_VERSION}")
  endif()
  foreach(_libtorch_name torch_cpu c10)
    add_library(LibTorch::${_libtorch_name} SHARED IMPORTED)
    set_target_properties(LibTorch::${_libtorch_name} PROPERTIES IMPORTED_LOCATION
      "${LibTorch_ROOT_DIR}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}${_libtorch_name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
  endforeach()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  # The headers of an imported target are system headers, so they are searched after ours and stay silent. They
  # hide Debian's fmt: a file that sees ATen must not include spdlog.
  target_include_directories(LibTorch::LibTorch INTERFACE "${LibTorch_ROOT_DIR}/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::torch_cpu LibTorch::c10)
  # A CUDA wheel's libtorch_cpu wants CUDA libraries that it finds itself when it is loaded.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--allow-shlib-undefined)
endif()
