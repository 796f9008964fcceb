# Compiler flags of our own targets. They hang on an interface target that is linked PRIVATE, so a
# consumer never inherits them.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(QVLM_CCACHE ccache)
if(QVLM_CCACHE AND PROJECT_IS_TOP_LEVEL)
  # The sloppiness is what ccache's manual asks for with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${QVLM_CCACHE})
endif()

add_library(qvlm_flags INTERFACE)
# Designated initializers leave out the fields that keep their default, which -Wextra would complain about.
# -ffp-contract=off: without it CPU levels drift apart by fused multiply-adds.
target_compile_options(qvlm_flags INTERFACE
  -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wnon-virtual-dtor -Winvalid-pch -fpch-preprocess -ffp-contract=off
  $<$<BOOL:${QVLM_WERROR}>:-Werror>)

if(QVLM_SANITIZE)
  add_compile_options(-fsanitize=${QVLM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${QVLM_SANITIZE})
endif()

find_program(QVLM_LLD NAMES ld.lld)
if(QVLM_LLD AND PROJECT_IS_TOP_LEVEL)
  add_link_options(-fuse-ld=lld)
endif()

# Gives a library target the include folders and flags that all three share.
function(qvlm_configure_library target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:qvlm_flags>)
endfunction()
